"""Job specifications, messages and the API's views: what crosses a process boundary. Data, never code."""
