"""What the inference service decides, without I/O: which requests make a batch, and what a tensor must be."""
