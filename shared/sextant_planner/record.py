"""What every contract of the planner is: a frozen, strict, validated record that goes to JSON and back unchanged."""

from __future__ import annotations

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError


class PlanningError(ValueError):
    """What was asked cannot be planned; `field` names what is wrong and `nearest` what would do."""

    def __init__(self, message: str, *, field: str | None = None, nearest: object = None) -> None:
        self.field = field
        self.nearest = nearest
        super().__init__(message)


class Record(BaseModel):
    """Immutable, no unknown field, no silent conversion, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def to_json(self, *, indent: int | None = None) -> str:
        """The record as JSON; `from_json` gives an equal one."""
        return self.model_dump_json(indent=indent, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises PlanningError that names the field, what was given and what is accepted."""
        try:
            return cls.model_validate_json(text, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise PlanningError(f"{field}: {first['msg']} (given {first.get('input')!r})", field=field) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the key under which what follows from this record may be cached."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
