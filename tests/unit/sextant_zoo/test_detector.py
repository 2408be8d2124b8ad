"""The detector on its backbones."""

from __future__ import annotations

import pytest
import torch

from sextant_zoo import build
from sextant_zoo.detector import Detector
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.registering import registered

SMALL = {"width": 0.1, "channels": 8, "depth": 1}


def detector(shape: tuple[int, ...] = (2, 64, 96), **config: object) -> Detector:
    torch.manual_seed(0)
    made = build("detector", {**SMALL, **config}, shape, 3)
    assert isinstance(made, Detector)
    return made.eval()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet-v2", "mobilenet-v3-large", "efficientnet-b0"])
@pytest.mark.parametrize(("stride", "fold"), [(8, 1), (8, 2), (16, 2)])
def test_it_gives_a_map_at_its_stride_on_any_backbone(backbone: str, stride: int, fold: int) -> None:
    with torch.no_grad():
        made = detector(backbone=backbone, stride=stride, fold=fold)(torch.zeros(1, 2, 64, 96))
    assert made.shape == (1, 7, 64 // stride, 96 // stride)


def test_it_sees_as_much_of_a_folded_picture() -> None:
    """Four pixels of a channel become one of four channels: none is lost."""
    model = detector(backbone="resnet18", fold=2)
    model.train()
    x = torch.randn(2, 2, 64, 96, requires_grad=True)
    model(x)[:, :3].square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all())


def test_what_is_coarser_than_needed_is_cut_off() -> None:
    whole, cut = (detector(backbone="resnet18", coarsest=stride) for stride in (32, 8))
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (whole, cut)]
    assert sizes[1] < sizes[0] / 4


def test_it_says_little_before_it_is_trained() -> None:
    with torch.no_grad():
        made = detector(backbone="mobilenet-v3-small")(torch.randn(2, 2, 64, 96))
    assert float(made[:, :3].sigmoid().max()) < 0.05


def test_a_stride_that_the_backbone_has_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownModelError, match=r"resnet18 with fold 2 has maps at the strides 8, 16") as caught:
        detector(backbone="resnet18", fold=2, stride=4)
    assert caught.value.field == "model.config.stride"


def test_a_reference_that_lies_elsewhere_is_as_good_to_a_detector_that_aligns() -> None:
    wide = torch.rand(1, 1, 72, 104).round()
    picture, reference = wide[..., 4:68, 4:100], wide[..., 1:65, 6:102]
    model = detector(backbone="resnet18", fold=2, align=4)
    with torch.no_grad():
        made = model(torch.cat([reference, picture], 1))
        assert torch.equal(made, model(torch.cat([registered(reference, picture, 4), picture], 1)))
        assert not torch.equal(made, detector(backbone="resnet18", fold=2)(torch.cat([reference, picture], 1)))


@pytest.mark.parametrize("shape", [(3, 64, 96), (2, 8, 96)])
def test_what_has_no_reference_cannot_be_aligned(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnknownModelError, match="a reference and a picture") as caught:
        detector(shape, backbone="resnet18", align=4)
    assert (caught.value.field, caught.value.accepted) == ("model.config.align", "0")
