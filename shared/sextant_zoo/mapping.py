"""A model of a team's own as a mapping: an architecture or a family of them, and settings by the names of the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sextant_zoo.errors import UnknownModelError
from sextant_zoo.registry import describe, names, validated

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "transformer": ("bert", "vit", "time-series", "ft-transformer"),
    "resnet": ("resnet50",),
    "mobilenet": ("mobilenet-v3-large",),
    "efficientnet": ("efficientnet-b0",),
    "recurrent": ("lstm",),
}
"""By the family's name its members, one a task at most: which one is meant is for the data to say."""

SYNONYMS: Mapping[str, str] = {
    "hidden_size": "hidden",
    "d_model": "hidden",
    "num_layers": "layers",
    "num_hidden_layers": "layers",
    "num_heads": "heads",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_heads",
    "intermediate_size": "inner",
    "vocab_size": "vocabulary",
    "max_position_embeddings": "sequence",
    "embedding_size": "embedding",
    "pad_token_id": "padding",
    "patch_size": "patch",
    "hidden_dropout": "dropout",
}
"""What others call the settings, and what the zoo does."""


def check_mapping(architecture: str, settings: Mapping[str, Any], task: str | None) -> tuple[str, dict[str, Any]]:
    """The name in the zoo, and by its own names the settings that were given, for data of `task`.

    Without a task, a family's first member that takes the settings is meant. Raises UnknownModelError naming the field.
    """
    fitting = _members(architecture, task)
    refused: list[UnknownModelError] = []
    for name in fitting:
        try:
            return name, _settings(name, settings)
        except UnknownModelError as error:
            refused.append(error)
    raise refused[0]


def _members(architecture: str, task: str | None) -> Sequence[str]:
    members = FAMILIES.get(architecture) or ((architecture,) if architecture in names() else ())
    if not members:
        accepted = ", ".join([*FAMILIES, *names()])
        raise UnknownModelError(f"no architecture {architecture!r}", "model.architecture", accepted)
    fitting = [name for name in members if task is None or task in describe(name).tasks]
    if not fitting:
        known = [family for family, of in FAMILIES.items() if any(task in describe(name).tasks for name in of)]
        accepted = ", ".join([*known, *(name for name in names() if task in describe(name).tasks)])
        message = f"{architecture} is not for the task {task} of the data"
        raise UnknownModelError(message, "model.architecture", accepted)
    return fitting


def _settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = describe(name).config.model_fields
    written: dict[str, str] = {}
    for key in given:
        ours = key if key in known else SYNONYMS.get(key, key)
        if ours in written:
            message = f"{key} and {written[ours]} are the same setting of {name}: give one of them"
            raise UnknownModelError(message, f"model.{key}")
        written[ours] = key
    settings = {ours: given[key] for ours, key in written.items()}
    validated(name, settings, "model", written)
    return settings
