"""Noticing what changes while a job runs: slow ranks, lost ranks, and the network they are joined by."""
