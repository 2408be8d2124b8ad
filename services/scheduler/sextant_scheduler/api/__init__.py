"""The REST API: routes by resource, one place for authentication, one for errors."""
