"""Where a model of the zoo tells its classes apart: what fresh weights begin with when all else is pretrained."""

from __future__ import annotations

from torch import nn

HEADS = ("output", "blocks.head", "model.classifier")
"""Of models that are written as a whole, of chains of blocks, and of what the library classifies images with."""


def head_name(model: nn.Module) -> str | None:
    """The submodule that is the head, if there is one."""
    if isinstance(model, nn.Sequential):
        linear = [name for name, layer in model.named_children() if isinstance(layer, nn.Linear)]
        return linear[-1] if linear else None
    names = {name for name, _ in model.named_modules()}
    return next((head for head in HEADS if head in names), None)


def parameters_of(model: nn.Module) -> frozenset[str]:
    """The names of the head's parameters; none where there is no head."""
    head = head_name(model)
    inside = model.get_submodule(head).named_parameters(prefix=head) if head else ()
    return frozenset(name for name, _ in inside)


def classifier(model: nn.Module) -> nn.Linear | None:
    """The linear layer that gives the classes, if there is one."""
    head = head_name(model)
    linear = [layer for layer in model.get_submodule(head).modules() if isinstance(layer, nn.Linear)] if head else []
    return linear[-1] if linear else None
