"""Bugs of the protocol, kept as patches: tests that do not find them are worth little."""
