"""A job's life: the rules (`machine`), and the only code that writes job state (`jobs`)."""
