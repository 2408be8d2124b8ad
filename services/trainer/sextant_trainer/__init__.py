"""The trainer: a node agent that claims slots, and launches and supervises training gangs."""
