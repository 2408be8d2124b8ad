"""What data preparation decides, without I/O: types, labels, splits, which rows are bad."""
