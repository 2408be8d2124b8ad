"""Images with boxes: which files are a row, what its boxes are, and whether they can be."""
