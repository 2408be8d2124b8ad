"""How a spec names a model: an architecture of the zoo, or a mapping of a team's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from sextant_shared.contracts.base import Accepted, Name, Text

MOST_SETTINGS = 64


def _scalar_type(value: object) -> str:
    # A tag for each type, so that a bad value has one error and not one a type.
    return {bool: "Bool", int: "Int", float: "Float", str: "Text"}.get(type(value), "")


Scalar = Annotated[
    Annotated[bool, Tag("Bool")]
    | Annotated[int, Tag("Int")]
    | Annotated[float, Tag("Float")]
    | Annotated[Text, Tag("Text")],
    Discriminator(
        _scalar_type, custom_error_type="scalar", custom_error_message="Expected a number, a text, true or false"
    ),
    WithJsonSchema({"type": ["boolean", "number", "string"]}),
]

Depths = Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(min_length=1, max_length=16)]


def _setting_type(value: object) -> str:
    return "Numbers" if isinstance(value, list) else _scalar_type(value)


Setting = Annotated[
    Annotated[bool, Tag("Bool")]
    | Annotated[int, Tag("Int")]
    | Annotated[float, Tag("Float")]
    | Annotated[Text, Tag("Text")]
    | Annotated[Depths, Tag("Numbers")],
    Discriminator(
        _setting_type,
        custom_error_type="setting",
        custom_error_message="Expected a number, a text, true, false, or a list of whole numbers",
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["boolean", "number", "string"]},
                {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 16},
            ]
        }
    ),
]


class ZooModel(Accepted):
    """An architecture of the zoo by name, with the settings to change."""

    zoo: Name
    config: dict[Name, Scalar] = Field(default_factory=dict, max_length=64)
    weights: Text | None = Field(None, description="pretrained ones: package://NAME, upload://ID, model://NAME")
    adapt: Literal["all", "head", "low-rank"] = Field("all", description="which parameters are trained")
    rank: int = Field(8, ge=1, le=1024, description="of low-rank changes")

    @model_validator(mode="after")
    def _has_something_to_adapt(self) -> Self:
        if self.adapt != "all" and self.weights is None:
            raise ValueError(f"adapt {self.adapt!r} needs weights: what is not trained must have been")
        return self


class OwnModel(Accepted):
    """An architecture of the zoo, or a family of them, by name; every other key is one of its settings."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting] = Field(init=False)

    architecture: Name

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if len(self.settings) > MOST_SETTINGS:
            raise ValueError(f"a model has at most {MOST_SETTINGS} settings, given {len(self.settings)}")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What is set, by the names that were written."""
        return dict(self.model_extra or {})


class CodeModel(Accepted):
    """A function of a user's own code that builds the model; the spec's `code` names the files."""

    code: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$")]
    """package.module:function"""
    config: dict[Name, Scalar] = Field(default_factory=dict, max_length=64)


FORMS = {"code": "CodeModel", "architecture": "OwnModel"}


def _form(value: object) -> str:
    if isinstance(value, Mapping):
        return next((form for key, form in FORMS.items() if key in value), "ZooModel")
    return type(value).__name__ if isinstance(value, CodeModel | OwnModel) else "ZooModel"


Model = Annotated[
    Annotated[ZooModel, Tag("ZooModel")]
    | Annotated[OwnModel, Tag("OwnModel")]
    | Annotated[CodeModel, Tag("CodeModel")],
    Discriminator(_form),
]
