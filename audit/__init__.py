"""The audit log: who did what. Knows nothing of the control plane: plain values in, rows out."""
