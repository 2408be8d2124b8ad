"""The scheduler's use cases: one function a message or request, inside the caller's transaction."""
