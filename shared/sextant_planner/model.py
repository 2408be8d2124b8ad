"""The model profile: what the planner knows of a model, block by block, in figures a sample."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sextant_planner.record import Record

Points = tuple[tuple[float, float], ...]
"""(x, y) pairs by rising x, to be interpolated between and extended beyond along the last segment."""


class TensorSplit(Record):
    """How a block can be shared out by tensor parallelism. What is not split stands on every rank."""

    limit: int = Field(ge=1, description="largest degree: heads, channels or groups; degrees must divide it")
    parameters: float = Field(1.0, ge=0, le=1, description="share of the parameters that is split")
    activations: float = Field(1.0, ge=0, le=1, description="share of the saved activations that is split")
    reduce_bytes: float = Field(ge=0, description="bytes all-reduced in the forward pass")
    reduce_bytes_backward: float | None = Field(None, ge=0, description="in the backward pass; None: as many")
    reductions: int = Field(1, ge=0, description="the number of all-reduces in each pass")
    sequence: bool = Field(False, description="whether the rest can be split along the sequence (sequence parallel)")


class ContextSplit(Record):
    """A block that can be split along the sequence: each rank has a part, and gathers keys and values."""

    key_bytes: float = Field(ge=0, description="keys and values of the whole sequence, one sample")


class MatrixProduct(Record):
    """Products (rows x inner) by (inner x columns), as many as `count` a sample."""

    rows: float = Field(
        gt=0, description="a sample; more samples make more rows, or more products where count is over 0"
    )
    columns: float = Field(gt=0)
    inner: float = Field(gt=0)
    count: float = Field(0.0, ge=0, description="products a sample, as in attention; 0: one product for all samples")
    split: Literal["columns", "inner", "count", "none"] = Field("none", description="what tensor parallelism divides")
    weight: bool = Field(True, description="whether one factor is a parameter, so that its gradient is accumulated")

    @property
    def flops(self) -> float:
        """Of one sample's forward pass."""
        return 2 * self.rows * self.columns * self.inner * max(1.0, self.count)


class BlockProfile(Record):
    """One block: the unit that pipeline stages, recomputation and sharding are planned in."""

    name: str
    kind: str = Field(description="what it is, for people")
    parameters: int = Field(ge=0, description="numbers, not bytes")
    products: tuple[MatrixProduct, ...] = Field((), description="the matrix products of the forward pass")
    traffic_bytes: float = Field(0.0, ge=0, description="read and written by the other operations, split by tp")
    shared_traffic_bytes: float = Field(0.0, ge=0, description="the same, split by sequence parallelism alone")
    core_traffic_bytes: float = Field(0.0, ge=0, description="of attention between its two products, split by tp")
    core_recomputed: bool = Field(False, description="the backward pass computes attention's core again")
    activation_bytes: float = Field(ge=0, description="saved for the backward pass, at the profile's precision")
    output_bytes: float = Field(ge=0, description="handed to the next block, at the profile's precision")
    buffer_bytes: float = Field(0.0, ge=0, description="running statistics and the like, a replica")
    batch_norms: int = Field(0, ge=0, description="batch normalisations, whose statistics are over all replicas")
    normalised: int = Field(0, ge=0, description="channels of all of these")
    tensor: TensorSplit | None = Field(None, description="absent: every rank would hold the whole block")
    context: ContextSplit | None = None
    operations: int = Field(10, ge=0, description="kernels of the forward pass that are not matrix products")
    forward_s: dict[str, Points] = Field(default_factory=dict, description="by device: (samples, seconds), measured")
    backward_s: dict[str, Points] = Field(default_factory=dict, description="by device: (samples, seconds), measured")
    weight_share: dict[str, float] = Field(
        default_factory=dict, description="by device: of the backward pass, what makes gradients of weights, measured"
    )
    parting_s: dict[str, float] = Field(
        default_factory=dict, description="by device: what a backward pass takes more in two parts, measured"
    )

    def held(self, tp: int) -> float:
        """Parameters on one of `tp` tensor-parallel ranks."""
        split = self.tensor.parameters if self.tensor else 0.0
        return self.parameters * (1 - split + split / tp)

    @property
    def forward_flops(self) -> float:
        """Of one sample, matrix products alone."""
        return sum(product.flops for product in self.products)


class ModelProfile(Record):
    """A model as a chain of blocks, in the order of the forward pass."""

    name: str
    blocks: tuple[BlockProfile, ...] = Field(min_length=1)
    precision_bytes: int = Field(4, ge=1, le=8, description="of one number of an activation in this profile")
    sequence: int = Field(1, ge=1, description="tokens a sample, for context parallelism and tokens a second")
    batch_coupled: bool = Field(False, description="batch normalisation: the result depends on how a batch is parted")
    optimizer_bytes: int = Field(8, ge=0, description="optimizer states a parameter: 8 for Adam's two moments")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            raise ValueError("two blocks have the same name")
        return self

    @property
    def parameters(self) -> int:
        """Of all blocks."""
        return sum(block.parameters for block in self.blocks)

    @property
    def forward_flops(self) -> float:
        """Of one sample through all blocks."""
        return sum(block.forward_flops for block in self.blocks)


def interpolate(points: Points, x: float) -> float:
    """Piecewise linear through `points`, and on along the first and last segments; never under 0."""
    if len(points) == 1:
        return points[0][1] * (x / points[0][0] if points[0][0] else 1.0)
    high = 1
    while high < len(points) - 1 and points[high][0] < x:
        high += 1
    (x0, y0), (x1, y1) = points[high - 1], points[high]
    return max(0.0, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
