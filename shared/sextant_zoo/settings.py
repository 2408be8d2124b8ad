"""The settings of every architecture: strict, bounded, with defaults."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Settings of an architecture: strict, bounded, no unknown field."""

    # Most processes that import the zoo check the settings of one architecture or of none.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class SmallCnnConfig(Config):
    """Settings of `small-cnn`."""

    channels: int = Field(32, ge=4, le=512, description="of the first convolution; doubled at each depth")
    depth: int = Field(2, ge=1, le=5, description="convolution blocks, each halving the image")
    hidden: int = Field(128, ge=8, le=4096, description="width of the layer before the output")
    dropout: float = Field(0.2, ge=0.0, le=0.9)


COLUMNS = "by column of a table 0 for a number, else how many features its categories have; what the data say if null"
Columns = Annotated[list[Annotated[int, Field(ge=0, le=100_000)]], Field(min_length=1, max_length=10_000)]


class MlpConfig(Config):
    """Settings of `mlp`."""

    hidden: int = Field(128, ge=4, le=8192)
    depth: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.1, ge=0.0, le=0.9)
    columns: Columns | None = Field(None, description=COLUMNS)
    frequencies: int = Field(0, ge=0, le=256, description="learnt waves that each number of a table is taken apart by")
    frequency_scale: float = Field(0.1, gt=0.0, le=100.0, description="of these waves at the beginning")
    embedding: int = Field(16, ge=1, le=256, description="width of a number's embedding, with frequencies")


class LayersConfig(Config):
    """Settings that all transformers share."""

    hidden: int = Field(256, ge=8, le=32768)
    layers: int = Field(4, ge=1, le=512)
    heads: int = Field(4, ge=1, le=512)
    inner: int | None = Field(None, ge=8, le=131072, description="width of the feed-forward layers; 4 * hidden if null")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be an even number for each of {self.heads} heads")
        return self


class DropoutConfig(LayersConfig):
    """Settings of the transformers whose layers are our own."""

    dropout: float = Field(0.0, ge=0.0, le=0.9, description="of what each layer adds to its input")
    attention_dropout: float = Field(0.0, ge=0.0, le=0.9, description="of the attention weights")


class DecoderConfig(DropoutConfig):
    """Settings of `decoder`. `inner` is 8/3 * hidden, rounded up to 64, by default where the style is llama."""

    style: Literal["llama", "gpt"] = "llama"
    key_heads: int | None = Field(None, ge=1, le=512, description="heads of keys and values; as many as heads if null")
    vocabulary: int = Field(256, ge=2, le=1048576)
    sequence: int = Field(256, ge=2, le=1048576, description="longest input")

    @model_validator(mode="after")
    def _queries_share_keys(self) -> Self:
        if self.heads % (self.key_heads or 1):
            raise ValueError(f"heads ({self.heads}) must be a multiple of key_heads ({self.key_heads})")
        return self


class EncoderConfig(DropoutConfig):
    """Settings of `encoder`."""

    vocabulary: int = Field(30522, ge=2, le=1048576)
    sequence: int = Field(512, ge=2, le=1048576, description="longest input")


class VitConfig(DropoutConfig):
    """Settings of `vit`."""

    patch: int = Field(4, ge=1, le=64, description="side of a patch, in pixels")


class TimeSeriesConfig(DropoutConfig):
    """Settings of `time-series`."""

    patch: int = Field(16, ge=1, le=512, description="steps a patch")
    horizon: int | None = Field(None, ge=1, le=4096, description="steps to forecast; what the data say if null")


class ResnetConfig(Config):
    """Settings of the residual networks."""

    block: Literal["bottleneck", "basic"] = "bottleneck"
    width: int = Field(64, ge=4, le=1024, description="of the first group; doubled at each")
    depths: list[int] = Field([3, 4, 6, 3], min_length=1, max_length=5, description="blocks a group")
    stem: Literal["auto", "large", "small"] = "auto"

    @model_validator(mode="after")
    def _depths_are_bounded(self) -> Self:
        if not all(1 <= depth <= 128 for depth in self.depths):
            raise ValueError("depths must be from 1 to 128 each")
        return self


class UnetConfig(Config):
    """Settings of `unet`."""

    channels: int = Field(32, ge=4, le=1024, description="of the first level; doubled at each")
    depth: int = Field(3, ge=1, le=6, description="times that the image is halved")
    groups: int = Field(8, ge=1, le=64, description="groups of channels that are normalised together")

    @model_validator(mode="after")
    def _groups_share_the_channels(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels ({self.channels}) must be a multiple of groups ({self.groups})")
        return self


class MobileConfig(Config):
    """Settings of the networks of inverted residuals: MobileNetV2, MobileNetV3, EfficientNet."""

    width: float = Field(1.0, ge=0.05, le=4.0, description="what all numbers of channels are multiplied by")
    depth: float = Field(1.0, ge=0.1, le=4.0, description="what the blocks of each stage are multiplied by")
    stages: int | None = Field(None, ge=1, le=16, description="only so many of the published stages; all if null")
    dropout: float = Field(0.2, ge=0.0, le=0.9)
    stem: Literal["auto", "large", "small"] = "auto"


Backbone = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "mobilenet-v2",
    "mobilenet-v3-small",
    "mobilenet-v3-large",
    "efficientnet-b0",
    "efficientnet-b3",
]


class DetectorConfig(Config):
    """Settings of `detector`."""

    backbone: Backbone = "mobilenet-v3-small"
    width: float = Field(1.0, ge=0.05, le=4.0, description="what the backbone's channels are multiplied by")
    align: int = Field(
        0, ge=0, le=16, description="pixels by which a reference is moved at most to where the picture lies"
    )
    fold: Literal[1, 2, 4] = Field(1, description="side of the squares of pixels that become channels first")
    stem: Literal["large", "small"] = Field("large", description="of the backbone: small keeps the size of its input")
    stride: Literal[4, 8, 16, 32] = Field(8, description="pixels from one cell of the result to the next")
    coarsest: Literal[4, 8, 16, 32, 64] = Field(
        32, description="the largest stride of a map; what is beyond is cut off"
    )
    channels: int = Field(64, ge=8, le=1024, description="of the maps that are joined")
    depth: int = Field(2, ge=1, le=8, description="convolutions after the joining")


class StagesConfig(Config):
    """Settings of networks of stages, each half as large as the one before: ConvNeXt, RegNet, Swin."""

    widths: list[int] = Field([96, 192, 384, 768], min_length=1, max_length=6, description="channels of each stage")
    depths: list[int] = Field([3, 3, 9, 3], min_length=1, max_length=6, description="blocks of each stage")
    patch: int = Field(4, ge=1, le=32, description="side of the first patches, in pixels; not for RegNet")
    heads: list[int] | None = Field(None, min_length=1, max_length=6, description="of each stage, for Swin")
    window: int = Field(7, ge=1, le=64, description="side of the windows, in patches, for Swin")
    group: int = Field(16, ge=1, le=512, description="channels a group, for RegNet")

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        if len(self.widths) != len(self.depths) or (self.heads and len(self.heads) != len(self.depths)):
            raise ValueError("widths, depths and heads must be of the same length")
        if not all(1 <= depth <= 128 for depth in self.depths):
            raise ValueError("depths must be from 1 to 128 each")
        if not all(4 <= width <= 8192 for width in self.widths):
            raise ValueError("widths must be from 4 to 8192 each")
        return self


class PatchesConfig(Config):
    """Settings of vision transformers of published sizes: DINOv2, DeiT."""

    hidden: int = Field(384, ge=8, le=8192)
    layers: int = Field(12, ge=1, le=128)
    heads: int = Field(6, ge=1, le=128)
    inner: int = Field(1536, ge=8, le=32768, description="width of the feed-forward layers")
    patch: int = Field(14, ge=1, le=64, description="side of a patch, in pixels")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class LanguageConfig(Config):
    """Settings of the language models of `transformers`."""

    vocabulary: int = Field(30522, ge=2, le=1048576)
    hidden: int = Field(768, ge=8, le=32768)
    layers: int = Field(12, ge=1, le=512)
    heads: int = Field(12, ge=1, le=512)
    key_heads: int | None = Field(None, ge=1, le=512, description="heads of keys and values; as many as heads if null")
    inner: int = Field(3072, ge=8, le=131072, description="width of the feed-forward layers")
    sequence: int = Field(512, ge=2, le=1048576, description="longest input")
    embedding: int | None = Field(None, ge=4, le=32768, description="width of the embeddings; hidden if null")
    padding: int = Field(0, ge=0, le=1048575, description="the token that fills up short inputs")
    dropout: float = Field(0.1, ge=0.0, le=0.9)
    attention_dropout: float | None = Field(
        None, ge=0.0, le=0.9, description="of the attention weights; as dropout if null"
    )
    head: Literal["linear", "cosine"] = Field("linear", description="of encoders: cosine goes by directions alone")

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        if self.hidden % self.heads or self.heads % (self.key_heads or 1):
            raise ValueError("hidden must be a multiple of heads, and heads of key_heads")
        if self.padding >= self.vocabulary:
            raise ValueError(f"padding ({self.padding}) must be a token of the vocabulary ({self.vocabulary})")
        return self


class DlinearConfig(Config):
    """Settings of `dlinear`."""

    kernel: int = Field(25, ge=1, le=1023, description="steps over which the trend is averaged")
    each: bool = Field(False, description="layers of its own for each column")
    normalise: bool = Field(False, description="take the mean of each window away first, and add it again")


class PatchtstConfig(LayersConfig):
    """Settings of `patchtst`."""

    hidden: int = Field(128, ge=8, le=4096)
    layers: int = Field(3, ge=1, le=128)
    heads: int = Field(16, ge=1, le=128)
    inner: int | None = Field(256, ge=8, le=32768)
    patch: int = Field(16, ge=1, le=512, description="steps a patch")
    stride: int = Field(8, ge=1, le=512, description="steps from one patch to the next")
    dropout: float = Field(0.2, ge=0.0, le=0.9)
    head_dropout: float = Field(0.0, ge=0.0, le=0.9)


class AutoformerConfig(LayersConfig):
    """Settings of `autoformer`."""

    hidden: int = Field(512, ge=8, le=4096)
    layers: int = Field(2, ge=1, le=64, description="of the encoder")
    decoder_layers: int = Field(1, ge=1, le=64)
    heads: int = Field(8, ge=1, le=128)
    inner: int | None = Field(2048, ge=8, le=32768)
    kernel: int = Field(25, ge=1, le=1023, description="steps over which the trend is averaged")
    factor: float = Field(1.0, gt=0.0, le=16.0, description="delays that are summed: this many times log(steps)")
    dropout: float = Field(0.05, ge=0.0, le=0.9)


class LstmConfig(Config):
    """Settings of `lstm`."""

    hidden: int = Field(128, ge=4, le=4096)
    layers: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.1, ge=0.0, le=0.9)


class FtTransformerConfig(DropoutConfig):
    """Settings of `ft-transformer`."""

    columns: Columns | None = Field(None, description=COLUMNS)

    hidden: int = Field(192, ge=8, le=4096)
    layers: int = Field(3, ge=1, le=64)
    heads: int = Field(8, ge=1, le=128)
    inner: int | None = Field(256, ge=8, le=32768)
