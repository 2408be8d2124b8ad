"""Benchmarks: each states its floor first and measures against it in the same run."""
