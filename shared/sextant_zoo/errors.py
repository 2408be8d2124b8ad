"""What the zoo refuses."""

from __future__ import annotations


class UnknownModelError(ValueError):
    """There is no such architecture, or it has no such setting.

    `field` says where the fault is, and `accepted` what is taken.
    """

    def __init__(self, message: str, field: str, accepted: str | None = None) -> None:
        self.field, self.accepted = field, accepted
        super().__init__(message)
