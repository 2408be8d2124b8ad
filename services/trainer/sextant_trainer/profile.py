"""`python -m sextant_trainer profile NAME`: traces an architecture of the zoo into a profile for the planner."""

from __future__ import annotations

import argparse
import sys

import torch

from sextant_parallel.profiling.trace import trace
from sextant_planner.model import ModelProfile
from sextant_zoo import build, describe
from sextant_zoo.registry import UnknownModelError


def main(arguments: list[str]) -> int:
    """Print the profile as JSON; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sextant_trainer profile", description=__doc__)
    parser.add_argument("architecture", help="a name of the zoo")
    parser.add_argument("--name", help="the profile's name; the architecture's otherwise")
    parser.add_argument("--shape", type=_shape, required=True, help="of one sample, such as 3,224,224 or 512")
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=NUMBER", help="of the architecture")
    options = parser.parse_args(arguments)
    settings = {key: _value(text) for key, _, text in (item.partition("=") for item in options.set)}
    try:
        made = profile(options.architecture, settings, options.shape, options.classes, options.name)
    except UnknownModelError as error:
        parser.error(str(error))
    sys.stdout.write(made.to_json() + "\n")
    return 0


def profile(
    architecture: str, settings: dict[str, object], shape: tuple[int, ...], classes: int, name: str | None = None
) -> ModelProfile:
    """An architecture's profile for samples of `shape`; nothing is computed and no memory is taken."""
    tokens = describe(architecture).modality == "text"
    with torch.device("meta"):
        model = build(architecture, settings, shape, classes)
        kind = torch.int64 if tokens else torch.float32
        sample = torch.zeros(2, *shape, dtype=kind)
    return trace(model, sample, name=name or architecture)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; accepted are whole numbers such as 3,224,224")
    return shape


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
