"""The tuner: searches for hyper-parameters; its trials are train jobs, its state is in the store."""
