"""The scheduler's own code on a model of its servers: faults at will, every run repeatable by its seed."""
