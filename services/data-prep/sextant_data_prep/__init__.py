"""Data preparation: raw data to cleaned, typed, split, content-addressed dataset versions."""
