"""The dashboard: pages over the control plane."""
