"""The control plane: what tasks, queues, workers and agents are doing, and the commands sent to them."""
