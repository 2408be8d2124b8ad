"""Residual networks (He et al., 2015), with the stride of bottlenecks in the 3x3 convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import ResnetConfig

EXPANSION = 4


class Stem(Block):
    """The first convolution: 7x7 with stride 2 and pooling for large images, 3x3 for small ones."""

    kind: ClassVar[str] = "stem"
    batch_coupled: ClassVar[bool] = True

    def __init__(self, channels: int, width: int, *, large: bool) -> None:
        super().__init__()
        self.large = large
        side, stride = (7, 2) if large else (3, 1)
        self.conv = nn.Conv2d(channels, width, side, stride, side // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, width, height / 4, width / 4), or full size."""
        x = functional.relu(self.norm(self.conv(x)))
        return functional.max_pool2d(x, 3, 2, 1) if self.large else x


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions beside a residual.

    Tensor parallelism splits the first two, by outputs and by inputs, with the normalisation between them: that is
    13 of the 17 parts of the work for a sum over the narrow width. The last would need one over four times as much.
    """

    kind: ClassVar[str] = "bottleneck"
    tensor_rules: ClassVar[Mapping[str, str]] = {"conv1": "conv-column", "norm1": "conv-norm", "conv2": "conv-row"}
    batch_coupled: ClassVar[bool] = True

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(wide)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))
        self._limit = width

    @property
    def tensor_limit(self) -> int:
        """The channels between the first two convolutions."""
        return self._limit

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, 4 * width, height / stride, width / stride)."""
        out = functional.relu(self.norm1(self.conv1(x)))
        out = functional.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        return functional.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class BasicBlock(Block):
    """Two 3x3 convolutions beside a residual. Tensor parallelism splits the pair, with the normalisation between."""

    kind: ClassVar[str] = "basic"
    tensor_rules: ClassVar[Mapping[str, str]] = {"conv1": "conv-column", "norm1": "conv-norm", "conv2": "conv-row"}
    batch_coupled: ClassVar[bool] = True

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self._limit = width

    @property
    def tensor_limit(self) -> int:
        """The channels between the convolutions."""
        return self._limit

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, width, height / stride, width / stride)."""
        out = functional.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return functional.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class PooledHead(Block):
    """The mean over the image, and logits."""

    kind: ClassVar[str] = "classifier"

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes)."""
        logits: Tensor = self.output(x.mean((2, 3)))
        return logits


def build(config: ResnetConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """For images (channels, height, width). Raises UnknownModelError for other inputs."""
    if len(input_shape) != 3:
        raise UnknownModelError(f"inputs must be (channels, height, width), got {input_shape}", "model.zoo")
    large = config.stem == "large" or (config.stem == "auto" and min(input_shape[1:]) >= 64)
    blocks: dict[str, nn.Module] = {"stem": Stem(input_shape[0], config.width, large=large)}
    basic = config.block == "basic"
    channels = config.width
    for group, depth in enumerate(config.depths):
        width = config.width * 2**group
        for index in range(depth):
            stride = 2 if group and not index else 1
            made = BasicBlock(channels, width, stride) if basic else Bottleneck(channels, width, stride)
            blocks[f"group_{group}_{index}"] = made
            channels = width if basic else width * EXPANSION
    blocks["head"] = PooledHead(channels, classes)
    return BlockModel(blocks).apply(_initialise)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
