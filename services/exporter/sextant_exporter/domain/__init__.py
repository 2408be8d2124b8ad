"""What the exporter decides, without I/O: metrics and whether they meet what is required."""
