"""Networks of inverted residuals: MobileNetV2 (Sandler et al., 2018), MobileNetV3 (Howard et al., 2019) and
EfficientNet (Tan and Le, 2019). A narrow map is widened, convolved channel by channel, and made narrow again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import MobileConfig

LARGE = 64
"""Images of as many pixels a side begin with a stride of 2, unless `stem` says otherwise."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one kind: `wide` is the factor of the widening, or, with `absolute`, the channels in the middle."""

    wide: float
    channels: int
    blocks: int
    stride: int
    kernel: int = 3
    squeeze: bool = False
    act: type[nn.Module] = nn.ReLU6
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What tells the networks apart."""

    stem: int
    act: type[nn.Module]
    stages: tuple[Stage, ...]
    last: int
    """Channels of the last convolution."""
    grows: bool
    """Whether the last convolution never gets narrower with `width`."""
    hidden: int = 0
    """Width of the layer before the output, if there is one."""
    gate: type[nn.Module] = nn.Hardsigmoid
    squeeze_inner: bool = True
    """Whether the squeeze is a quarter of the wide channels; else of those that come in."""
    eps: float = 1e-5
    momentum: float = 0.1
    same: bool = False
    """Whether strides begin where TensorFlow begins them: what is filled up is filled up behind rather than before."""


class SamePadding(nn.Module):
    """Zeros around an image, so that a convolution gives a place for every `stride` pixels, begun ones included."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same with up to kernel - 1 rows and columns more."""
        height, width = (self._fill(side) for side in x.shape[2:])
        return functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))

    def _fill(self, side: int) -> int:
        return max(0, (math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side)


class Squeeze(nn.Module):
    """Weighs channels by what the whole image shows (Hu et al., 2018)."""

    def __init__(self, channels: int, inner: int, act: type[nn.Module], gate: type[nn.Module]) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, inner, 1)
        self.up = nn.Conv2d(inner, channels, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same."""
        weights: Tensor = self.gate(self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))))
        return x * weights


class InvertedResidual(Block):
    """Widen, convolve each channel, weigh, make narrow; beside a residual where the shape stays."""

    kind: ClassVar[str] = "inverted-residual"
    batch_coupled: ClassVar[bool] = True

    def __init__(self, channels: int, inner: int, out: int, stride: int, stage: Stage, family: Family) -> None:
        super().__init__()
        act = stage.act
        layers: list[nn.Module] = []
        if inner != channels:
            layers += [*_convolution(channels, inner, 1, 1, family), act()]
        layers += [*_convolution(inner, inner, stage.kernel, stride, family, groups=inner), act()]
        if stage.squeeze:
            narrow = _eighths(inner / 4) if family.squeeze_inner else max(1, channels // 4)
            layers.append(Squeeze(inner, narrow, nn.ReLU if family.squeeze_inner else act, family.gate))
        layers += _convolution(inner, out, 1, 1, family)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, out, height / stride, width / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class Convolution(Block):
    """A convolution with its normalisation and activation."""

    kind: ClassVar[str] = "convolution"
    batch_coupled: ClassVar[bool] = True

    def __init__(self, channels: int, out: int, kernel: int, stride: int, family: Family) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolution(channels, out, kernel, stride, family), family.act())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, out, height / stride, width / stride)."""
        out: Tensor = self.layers(x)
        return out


class MobileHead(Block):
    """The mean over the image, a layer where the family has one, and logits."""

    kind: ClassVar[str] = "classifier"

    def __init__(self, channels: int, hidden: int, classes: int, act: type[nn.Module], dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden) if hidden else None
        self.act = act()
        self.dropout = dropout
        self.output = nn.Linear(hidden or channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes)."""
        x = x.mean((2, 3))
        if self.hidden is not None:
            x = self.act(self.hidden(x))
        logits: Tensor = self.output(functional.dropout(x, self.dropout, self.training))
        return logits


def _convolution(channels: int, out: int, kernel: int, stride: int, family: Family, groups: int = 1) -> list[nn.Module]:
    filled = family.same and stride > 1
    padding = 0 if filled else kernel // 2
    convolution = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    first: list[nn.Module] = [SamePadding(kernel, stride)] if filled else []
    return [*first, convolution, nn.BatchNorm2d(out, family.eps, family.momentum)]


def _eighths(channels: float) -> int:
    """The nearest multiple of 8, but at least 8 and never under nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _build(family: Family, config: MobileConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """For images (channels, height, width). Raises UnknownModelError for other inputs."""
    if len(input_shape) != 3:
        raise UnknownModelError(f"inputs must be (channels, height, width), got {input_shape}", "model.zoo")
    large = config.stem == "large" or (config.stem == "auto" and min(input_shape[1:]) >= LARGE)
    channels = _eighths(family.stem * config.width)
    blocks: dict[str, nn.Module] = {"stem": Convolution(input_shape[0], channels, 3, 2 if large else 1, family)}
    for number, stage in enumerate(family.stages[: config.stages]):
        out = _eighths(stage.channels * config.width)
        for index in range(math.ceil(stage.blocks * config.depth)):
            inner = _eighths(stage.wide * config.width) if stage.absolute else _eighths(channels * stage.wide)
            stride = 1 if index else stage.stride
            blocks[f"stage_{number}_{index}"] = InvertedResidual(channels, inner, out, stride, stage, family)
            channels = out
    last = _eighths(family.last * (max(1.0, config.width) if family.grows else config.width))
    blocks["last"] = Convolution(channels, last, 1, 1, family)
    blocks["head"] = MobileHead(last, family.hidden, classes, family.act, config.dropout)
    return BlockModel(blocks).apply(_initialise)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def _v2() -> Family:
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    return Family(32, nn.ReLU6, tuple(Stage(*row) for row in rows), last=1280, grows=True)


def _v3(rows: tuple[tuple[int, int, int, bool, type[nn.Module], int], ...], last: int, hidden: int) -> Family:
    """Rows are kernel, channels in the middle, channels, squeeze, activation, stride of one block each."""
    stages = tuple(
        Stage(wide, channels, 1, stride, kernel, squeeze, act, absolute=True)
        for kernel, wide, channels, squeeze, act, stride in rows
    )
    return Family(16, nn.Hardswish, stages, last, grows=False, hidden=hidden, eps=1e-3, momentum=0.01)


def _v3_small() -> Family:
    relu, swish = nn.ReLU, nn.Hardswish
    rows = (
        (3, 16, 16, True, relu, 2), (3, 72, 24, False, relu, 2), (3, 88, 24, False, relu, 1),
        (5, 96, 40, True, swish, 2), (5, 240, 40, True, swish, 1), (5, 240, 40, True, swish, 1),
        (5, 120, 48, True, swish, 1), (5, 144, 48, True, swish, 1), (5, 288, 96, True, swish, 2),
        (5, 576, 96, True, swish, 1), (5, 576, 96, True, swish, 1),
    )  # fmt: skip
    return _v3(rows, last=576, hidden=1024)


def _v3_large() -> Family:
    relu, swish = nn.ReLU, nn.Hardswish
    rows = (
        (3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1),
        (5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1),
        (3, 240, 80, False, swish, 2), (3, 200, 80, False, swish, 1), (3, 184, 80, False, swish, 1),
        (3, 184, 80, False, swish, 1), (3, 480, 112, True, swish, 1), (3, 672, 112, True, swish, 1),
        (5, 672, 160, True, swish, 2), (5, 960, 160, True, swish, 1), (5, 960, 160, True, swish, 1),
    )  # fmt: skip
    return _v3(rows, last=960, hidden=1280)


def _efficientnet() -> Family:
    rows = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip
    stages = tuple(Stage(*row, squeeze=True, act=nn.SiLU) for row in rows)
    return Family(32, nn.SiLU, stages, 1280, grows=False, gate=nn.Sigmoid, squeeze_inner=False, eps=1e-3, momentum=0.01)


def _efficientnet_lite() -> Family:
    """Without squeezes, and with an activation that eight bits hold (Google, 2020)."""
    full = _efficientnet()
    stages = tuple(replace(stage, squeeze=False, act=nn.ReLU6) for stage in full.stages)
    return replace(full, act=nn.ReLU6, stages=stages, same=True)


def _builder(family: Callable[[], Family]) -> Callable[[MobileConfig, tuple[int, ...], int], BlockModel]:
    return lambda config, input_shape, classes: _build(family(), config, input_shape, classes)


build_mobilenet_v2 = _builder(_v2)
build_mobilenet_v3_small = _builder(_v3_small)
build_mobilenet_v3_large = _builder(_v3_large)
build_efficientnet = _builder(_efficientnet)
build_efficientnet_lite = _builder(_efficientnet_lite)
