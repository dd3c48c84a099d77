"""Ways to reach the brain. A transport carries bytes and knows nothing of frames."""
