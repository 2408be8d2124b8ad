"""Image classifiers of `transformers`: ConvNeXt, RegNet, Swin, DeiT, DINOv2."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sextant_zoo.borrowed.library import model
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import PatchesConfig, StagesConfig

Shape = tuple[int, ...]


class ImageClassifier(nn.Module):
    """A model of `transformers` that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes)."""
        logits: Tensor = self.model(images).logits
        return logits


def build_convnext_tiny(config: StagesConfig, input_shape: Shape, classes: int) -> nn.Module:
    """ConvNeXt (Liu et al., 2022). Raises UnknownModelError where the images are too small."""
    _check(input_shape, config.patch * 2 ** (len(config.depths) - 1))
    made = model(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        num_channels=input_shape[0],
        patch_size=config.patch,
        num_stages=len(config.depths),
        hidden_sizes=list(config.widths),
        depths=list(config.depths),
        num_labels=classes,
    )
    return ImageClassifier(made)


def build_regnet_y_8gf(config: StagesConfig, input_shape: Shape, classes: int) -> nn.Module:
    """RegNet with squeezes (Radosavovic et al., 2020). Raises UnknownModelError where the images are too small."""
    _check(input_shape, 2 ** len(config.depths))
    if any(width % config.group for width in config.widths):
        raise UnknownModelError(f"widths must be multiples of group ({config.group})", "model.config.group")
    made = model(
        "RegNetForImageClassification",
        "RegNetConfig",
        num_channels=input_shape[0],
        hidden_sizes=list(config.widths),
        depths=list(config.depths),
        groups_width=config.group,
        layer_type="y",
        num_labels=classes,
    )
    return ImageClassifier(made)


def build_swin_tiny(config: StagesConfig, input_shape: Shape, classes: int) -> nn.Module:
    """Swin (Liu et al., 2021). Raises UnknownModelError for images of another form, and widths that do not double."""
    side = _square(input_shape, config.patch * 2 ** (len(config.depths) - 1))
    first = config.widths[0]
    heads = config.heads or [max(1, first * 2**stage // 32) for stage in range(len(config.depths))]
    if any(width != first * 2**stage for stage, width in enumerate(config.widths)):
        raise UnknownModelError("widths must double from stage to stage", "model.config.widths")
    if any(width % count for width, count in zip(config.widths, heads, strict=True)):
        raise UnknownModelError(f"widths must be multiples of heads {heads}", "model.config.heads")
    made = model(
        "SwinForImageClassification",
        "SwinConfig",
        image_size=side,
        num_channels=input_shape[0],
        patch_size=config.patch,
        embed_dim=first,
        depths=list(config.depths),
        num_heads=heads,
        window_size=config.window,
        num_labels=classes,
    )
    return ImageClassifier(made)


def build_deit_small(config: PatchesConfig, input_shape: Shape, classes: int) -> nn.Module:
    """DeiT (Touvron et al., 2021). Raises UnknownModelError for images that the patches do not cover."""
    settings = _patches(config, input_shape, classes)
    return ImageClassifier(model("DeiTForImageClassification", "DeiTConfig", **settings))


def build_dinov2_small(config: PatchesConfig, input_shape: Shape, classes: int) -> nn.Module:
    """DINOv2 (Oquab et al., 2023). Raises UnknownModelError for images that the patches do not cover."""
    settings = _patches(config, input_shape, classes)
    ratio, rest = divmod(settings.pop("intermediate_size"), config.hidden)
    if rest:
        raise UnknownModelError("inner must be a multiple of hidden", "model.config.inner")
    made = model("Dinov2ForImageClassification", "Dinov2Config", **settings, mlp_ratio=ratio)
    # Nothing is masked where images are told apart.
    made.dinov2.embeddings.mask_token.requires_grad_(False)
    return ImageClassifier(made)


def _patches(config: PatchesConfig, input_shape: Shape, classes: int) -> dict[str, Any]:
    side = _square(input_shape, config.patch)
    if side % config.patch:
        message = f"images must be a multiple of patch ({config.patch}) high and wide, got {input_shape}"
        raise UnknownModelError(message, "model.config.patch")
    return {
        "image_size": side,
        "num_channels": input_shape[0],
        "patch_size": config.patch,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.inner,
        "num_labels": classes,
    }


def _check(input_shape: Shape, side: int) -> None:
    if len(input_shape) != 3 or min(input_shape[1:]) < side:
        message = f"images must be (channels, height, width) of {side} pixels a side or more, got {input_shape}"
        raise UnknownModelError(message, "model.config.depths")


def _square(input_shape: Shape, side: int) -> int:
    _check(input_shape, side)
    if input_shape[1] != input_shape[2]:
        raise UnknownModelError(f"images must be as high as wide, got {input_shape}", "model.zoo")
    return input_shape[1]
