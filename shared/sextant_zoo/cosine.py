"""A head that goes by directions alone: what a row looks like, not how long its features are.

Source: Wang et al., "NormFace" (2017); its loss needs a scale, as cosines are never sure of anything.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CosineLinear(nn.Linear):
    """The cosines of the angles between features and each class's weights, times `SCALE`."""

    SCALE = 16.0

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., classes)."""
        return self.SCALE * functional.linear(functional.normalize(x, dim=-1), functional.normalize(self.weight, dim=1))
