"""Running models: sessions, batching, and the set of models that are served."""
