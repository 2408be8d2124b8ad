"""Plans how to split the training of a model over devices: pure Python, no torch, so that a laptop can plan."""
