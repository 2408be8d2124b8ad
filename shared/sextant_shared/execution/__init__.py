"""Doing a job's work: a supervisor holds the lease and the credentials, a child without either does the work."""
