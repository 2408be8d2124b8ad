"""The scheduler: REST API, job state, placement, dispatch, repair and the audit log's face."""
