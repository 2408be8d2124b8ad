"""The steps of a `prepare` job's `clean`: a list that is gone through in order, each step with its own settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from sextant_shared.contracts.base import Accepted, Text

Kind = Literal["email", "phone", "card", "ip", "iban"]
Script = Literal["latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai", "hangul", "kana", "han"]
Columns = Annotated[list[Text], Field(min_length=1, max_length=10_000)]


class Unicode(Accepted):
    """One spelling of each character; without control characters, white space brought to single blanks."""

    do: Literal["unicode"]
    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    collapse: bool = Field(True, description="control characters out, white space to single blanks")


class Length(Accepted):
    """Texts that are too short or too long are left out."""

    do: Literal["length"]
    min_chars: int = Field(1, ge=0, le=100_000_000)
    max_chars: int | None = Field(None, ge=1, le=100_000_000)
    min_words: int = Field(0, ge=0, le=10_000_000)
    max_words: int | None = Field(None, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        for unit, low, high in (
            ("chars", self.min_chars, self.max_chars),
            ("words", self.min_words, self.max_words),
        ):
            if high is not None and high < low:
                raise ValueError(f"max_{unit} must not be under min_{unit}")
        return self


class ScriptFilter(Accepted):
    """Texts whose letters are of other scripts are left out: of an alphabet, which is less than a language."""

    do: Literal["script"]
    keep: list[Script] = Field(min_length=1, max_length=10)
    min_share: float = Field(0.5, ge=0.0, le=1.0, description="of the letters; a text without letters stays")


class Mask(Accepted):
    """Personal data in texts are replaced by <EMAIL>, <PHONE>, <CARD>, <IP>, <IBAN>."""

    do: Literal["mask"]
    kinds: list[Kind] = Field(default=["email", "phone", "card", "ip", "iban"], min_length=1, max_length=5)


class Deduplicate(Accepted):
    """Rows that stood there before are left out; with `near` also texts and images that are alike."""

    do: Literal["deduplicate"]
    near: float | None = Field(
        None, ge=0.5, lt=1.0, description="share that is alike, of shingles (texts) or bits (images)"
    )


class Types(Accepted):
    """What columns are, where that is not to be found out by itself."""

    do: Literal["types"]
    columns: dict[Text, Literal["number", "category", "ignore"]] = Field(min_length=1, max_length=10_000)


class Missing(Accepted):
    """What becomes of missing values: of the columns named, or of all that no other such step names."""

    do: Literal["missing"]
    columns: Columns | None = None
    policy: Literal["drop", "mean", "median", "constant", "most-frequent"] = "drop"
    value: float | Text | None = Field(None, description="what stands in their place, for the policy `constant`")
    flag: bool = Field(False, description="add a column that says where a value was missing")
    also: list[Text] = Field(default=[], max_length=64, description='texts that mean "missing" in all columns')

    @model_validator(mode="after")
    def _has_a_value_where_one_is_needed(self) -> Self:
        if (self.value is None) == (self.policy == "constant"):
            raise ValueError("the policy `constant` needs a value, and no other takes one")
        return self


class Categories(Accepted):
    """How many categories a column may have, and what becomes of those beyond the most frequent ones."""

    do: Literal["categories"]
    columns: Columns | None = None
    max: int = Field(64, ge=2, le=1000)
    rare: Literal["refuse", "other"] = "other"


class Bounds(Accepted):
    """Rows whose value of a numeric column lies outside are left out."""

    do: Literal["bounds"]
    column: Text
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError("max must not be under min")
        return self


class Outliers(Accepted):
    """Numbers far from the others of their column are brought nearer, or counted."""

    do: Literal["outliers"]
    columns: Columns | None = None
    distance: float = Field(
        3.0, gt=0.0, le=1e6, description="from the nearer quartile, in distances between the quartiles"
    )
    action: Literal["clip", "flag"] = "clip"


class Leakage(Accepted):
    """Columns that give the target away are looked for; they are named in the report, or refused."""

    do: Literal["leakage"]
    action: Literal["flag", "refuse"] = "flag"


class Resize(Accepted):
    """The size that images are brought to, in place of the most frequent one."""

    do: Literal["resize"]
    width: int = Field(ge=1, le=1024)
    height: int = Field(ge=1, le=1024)


class Exposure(Accepted):
    """Images that are blurred, too dark or too bright: counted, or left out."""

    do: Literal["exposure"]
    min_sharpness: float = Field(0.0, ge=0.0, le=1e6, description="variance of the Laplacian of the grey image, 0-255")
    min_brightness: float = Field(0.0, ge=0.0, le=1.0, description="mean of the grey image")
    max_brightness: float = Field(1.0, ge=0.0, le=1.0)
    action: Literal["flag", "remove"] = "flag"

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max_brightness < self.min_brightness:
            raise ValueError("max_brightness must not be under min_brightness")
        return self


class Zone(Accepted):
    """The zone of times that have none: what its clocks showed becomes a moment."""

    do: Literal["zone"]
    name: Text = Field(description="such as Europe/Berlin")

    @field_validator("name")
    @classmethod
    def _is_one(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name[:80]!r} is no time zone; accepted: names such as Europe/Berlin or UTC")
        return name


class Order(Accepted):
    """A series that is not in the order of time, or has no regular steps, is refused."""

    do: Literal["order"]
    out_of_order: int = Field(0, ge=0, lt=2**40, description="rows that may stand before an earlier one")
    irregular: float | None = Field(0.0, ge=0.0, le=1.0, description="share of steps that may be others than the usual")


class Resample(Accepted):
    """A series brought to one row for each length of time."""

    do: Literal["resample"]
    every: str = Field(pattern=r"^[1-9][0-9]{0,5}[smhd]$", description="such as 15m: seconds, minutes, hours, days")
    take: Literal["mean", "sum", "min", "max", "median", "first", "last"] = "mean"


class Fill(Accepted):
    """Missing values of a series are filled from those before, or between those around within a split."""

    do: Literal["fill"]
    columns: Columns | None = None
    method: Literal["previous", "linear"] = "previous"
    max_gap: int | None = Field(None, ge=1, lt=2**40, description="missing rows in a row that are accepted")


Step = Annotated[
    Unicode
    | Length
    | ScriptFilter
    | Mask
    | Deduplicate
    | Types
    | Missing
    | Categories
    | Bounds
    | Outliers
    | Leakage
    | Resize
    | Exposure
    | Zone
    | Order
    | Resample
    | Fill,
    Field(discriminator="do"),
]
TEXT_STEPS = ("unicode", "length", "script", "mask", "deduplicate")
TABLE_STEPS = ("types", "missing", "categories", "bounds", "outliers", "deduplicate", "leakage")
IMAGE_STEPS = ("resize", "exposure", "deduplicate")
BOX_STEPS = ("resize", "deduplicate")
SERIES_STEPS = ("zone", "order", "deduplicate", "resample", "fill", "outliers")
