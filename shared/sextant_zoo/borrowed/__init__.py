"""Architectures that `transformers` has, made from a configuration alone. It is imported when one is built."""
