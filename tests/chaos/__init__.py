"""Real processes under a seeded schedule of faults: see docs/reliability.md."""
