"""What the zoo refuses."""

from __future__ import annotations


class UnknownModelError(ValueError):
    """There is no such architecture, or it has no such setting; `field` says where the fault is."""

    def __init__(self, message: str, field: str) -> None:
        self.field = field
        super().__init__(message)
