"""The two kinds of model: what we accept from people (strict) and what we read from ourselves (tolerant)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


class Accepted(BaseModel):
    """Input from a user: strict, bounded, no unknown field, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class Received(BaseModel):
    """A message or view from another process: unknown fields are ignored, so that a newer sender does no harm."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold the character NUL")
    return text


Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_without_nul)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
"""1 to 64 lower-case letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit."""

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def _is_moment(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise ValueError("must be a date and time with its offset (RFC 3339), such as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_is_moment)]
"""A date and time with its offset, as text: seconds since 1970 are none."""

VersionedName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?(@[1-9][0-9]{0,8})?$")]
"""A name, or name@version; without a version the newest is meant."""
