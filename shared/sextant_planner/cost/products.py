"""The time of matrix products and of memory traffic on a device.

A product takes what its arithmetic takes at the share of the peak that its shape allows, or what moving its factors and
its result takes, whichever is more (the roofline of Williams, Waterman and Patterson, 2009). The share falls where the
tiles of the result do not fill the multiprocessors evenly, and where the inner size is short.
"""

from __future__ import annotations

from math import ceil

from sextant_planner.cluster import Device
from sextant_planner.model import MatrixProduct
from sextant_planner.plan import Precision

BACKWARD_TRAFFIC = 1.5
"""Traffic of the backward pass of what is not a product, in that of its forward pass."""
CORE_BACKWARD_TRAFFIC = 1.2


class Arithmetic:
    """Times on one device at one precision."""

    def __init__(self, device: Device, precision: Precision) -> None:
        """Raises KeyError where the device has no figure for the precision."""
        self._device = device
        self._bytes = precision.bytes
        self._peak = device.flops[precision]
        self._bandwidth = device.memory_bandwidth * device.memory_efficiency

    def move_s(self, count: float) -> float:
        """Reading or writing `count` bytes of the device's memory."""
        return count / self._bandwidth

    def operations_s(self, count: float) -> float:
        """The least time of `count` operations."""
        return count * self._device.kernel_s

    def product_s(
        self, rows: float, columns: float, inner: float, count: float = 1.0, extra_bytes: float = 0.0
    ) -> float:
        """`count` products (rows x inner) by (inner x columns)."""
        device = self._device
        share = device.product_ceiling * self._filled(rows, columns, count)
        share *= inner / (inner + device.product_half_inner)
        computed = 2 * rows * columns * inner * count / (self._peak * share)
        moved = self._bytes * (rows * inner + inner * columns + rows * columns) * count + extra_bytes
        return max(computed, self.move_s(moved)) + device.kernel_s

    def forward_s(self, product: MatrixProduct, samples: float, tp: int) -> float:
        """The forward pass of a product, on one of `tp` ranks."""
        rows, columns, inner, count = _shape(product, samples, tp)
        return self.product_s(rows, columns, inner, count)

    def input_gradient_s(self, product: MatrixProduct, samples: float, tp: int) -> float:
        """The gradient of a product's input."""
        rows, columns, inner, count = _shape(product, samples, tp)
        return self.product_s(rows, inner, columns, count)

    def weight_gradient_s(self, product: MatrixProduct, samples: float, tp: int, *, fused: bool) -> float:
        """The gradient of a product's other factor; `fused` adds it to a float32 sum on the way out."""
        rows, columns, inner, count = _shape(product, samples, tp)
        extra = 8.0 * columns * inner if fused and product.weight else 0.0
        return self.product_s(columns, inner, rows, count, extra)

    def _filled(self, rows: float, columns: float, count: float) -> float:
        """How much of the last wave of tiles is used, over all waves; the better of both orientations of the tile."""
        at_once = self._device.multiprocessors
        if not at_once:
            return 1.0
        high, wide = self._device.tile
        shares = []
        for a, b in ((high, wide), (wide, high)):
            tiles = ceil(rows / a) * ceil(columns / b) * count
            shares.append(tiles / (ceil(tiles / at_once) * at_once))
        return max(shares)


def _shape(product: MatrixProduct, samples: float, tp: int) -> tuple[float, float, float, float]:
    columns = product.columns / tp if product.split == "columns" else product.columns
    inner = product.inner / tp if product.split == "inner" else product.inner
    if product.count:
        count = product.count * samples / (tp if product.split == "count" else 1)
        return product.rows, columns, inner, count
    return product.rows * samples, columns, inner, 1.0
