"""The scheduler's decisions, without I/O."""
