"""The metadata store: its tables and how to connect. Job state is written by `sextant_shared.lifecycle` alone."""
