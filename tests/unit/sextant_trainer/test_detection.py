"""Detectors in training: maps of boxes and back, figures by bins, and pictures that are varied with their boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sextant_shared.contracts.specs import Augmentation
from sextant_trainer.training.tasks import scoring
from sextant_trainer.training.tasks.boxes import detection_loss, encode, imitation_loss
from sextant_trainer.training.tasks.scenes import moved, vary_scenes
from sextant_zoo.detecting import NOTHING, decode

SIZE, CELLS = (64, 96), (8, 12)
TARGETS = torch.tensor([[[8.0, 8, 24, 20, 0], [60, 30, 90, 60, 2], [-1, -1, -1, -1, -1]], [[-1.0] * 5] * 3])


def maps(targets: Tensor, classes: int = 3, sure: float = 6.0) -> Tensor:
    """What a perfect detector gives: hills as high as `sure`, and the real boxes in cells."""
    wanted = encode(targets, classes, CELLS, SIZE)
    x, y = (torch.arange(CELLS[1]) + 0.5) * 8, (torch.arange(CELLS[0]) + 0.5) * 8
    left, top, right, bottom = wanted.boxes.unbind(1)
    sides = [x - left, y.view(-1, 1) - top, right - x, bottom - y.view(-1, 1)]
    return torch.cat([(wanted.heat - 0.5) * 2 * sure, torch.stack(sides, 1) / 8], 1)


def test_what_is_encoded_is_decoded() -> None:
    boxes, logits, classes = decode(maps(TARGETS), SIZE)
    sure = logits > 0
    assert sure.sum(1).tolist() == [2, 0]
    found = sorted(zip(boxes[0, sure[0]].tolist(), classes[0, sure[0]].tolist(), strict=True))
    assert found == [([8, 8, 24, 20], 0), ([60, 30, 90, 60], 2)]


def test_of_boxes_that_overlap_the_surest_stays() -> None:
    outputs = torch.full((1, 5, 4, 8), -6.0)
    outputs[:, 1:] = 2.0
    outputs[0, 0, 1, 1], outputs[0, 0, 1, 3], outputs[0, 0, 1, 7] = 3.0, 2.0, 1.0
    # Boxes of four cells a side: two cells apart they share a third, of which half is the limit; of six they do not.
    boxes, logits, _ = decode(outputs, (32, 64))
    assert int((logits > 0).sum()) == 3
    outputs[:, 1:] = 4.0
    _, logits, _ = decode(outputs, (32, 64))
    assert logits[0, 0] == 3.0
    assert bool((logits[0, 1:2] == NOTHING).all())
    assert bool((boxes >= 0).all())


def test_the_loss_is_least_for_what_is_there() -> None:
    right = detection_loss(maps(TARGETS), TARGETS, SIZE)
    moved_by = maps(TARGETS)
    moved_by[:, -4:] += torch.tensor([-0.5, 0.0, 0.5, 0.0]).view(4, 1, 1)
    assert bool((right < 0.6).all())
    assert detection_loss(moved_by, TARGETS, SIZE)[0] > right[0] + 0.1
    empty = detection_loss(maps(TARGETS), TARGETS.flip(0), SIZE)
    assert bool((empty > right + 1.0).all())


def test_the_loss_of_a_batch_is_that_of_its_pictures() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(2, 7, *CELLS)
    together = detection_loss(outputs, TARGETS, SIZE)
    alone = torch.cat([detection_loss(outputs[i : i + 1], TARGETS[i : i + 1], SIZE) for i in range(2)])
    torch.testing.assert_close(together, alone)


def test_imitating_oneself_costs_nothing_beyond_doubt() -> None:
    outputs = maps(TARGETS)
    assert bool((imitation_loss(outputs, outputs, 1.0) < 1e-6).all())
    assert bool((imitation_loss(-outputs, outputs, 1.0) > 1.0).all())


def test_figures_of_a_perfect_detector_and_of_one_that_calls_all_wrong() -> None:
    def figures(outputs: Tensor) -> dict[str, float]:
        return scoring.figures(scoring.counts(outputs, TARGETS, SIZE, 0.5).numpy(), 3)

    perfect = figures(maps(TARGETS))
    assert {name: perfect[name] for name in ("mean_ap", "f1", "precision", "recall", "false_detection_rate")} == {
        "mean_ap": 1.0, "f1": 1.0, "precision": 1.0, "recall": 1.0, "false_detection_rate": 0.0,
    }  # fmt: skip
    # The highest threshold that finds both, a bin below their logit of 6.
    assert np.log(perfect["threshold"] / (1 - perfect["threshold"])) == pytest.approx(6.0, abs=16 / scoring.BINS)
    outputs = maps(TARGETS)
    wrong = figures(torch.cat([outputs[:, [1, 2, 0]], outputs[:, 3:]], 1))
    assert wrong["mean_ap"] == wrong["f1"] == 0.0


def test_counts_of_parts_add_up() -> None:
    torch.manual_seed(1)
    outputs, targets = torch.randn(6, 7, *CELLS) * 3, TARGETS.repeat(3, 1, 1)
    whole = scoring.counts(outputs, targets, SIZE, 0.3)
    parts = [scoring.counts(outputs[i : i + 2], targets[i : i + 2], SIZE, 0.3) for i in range(0, 6, 2)]
    torch.testing.assert_close(sum(parts[1:], parts[0]), whole)


def test_a_detection_on_a_picture_without_a_box_is_a_false_one() -> None:
    twice = torch.cat([maps(TARGETS)[:1], maps(TARGETS)[:1]])
    found = scoring.figures(scoring.counts(twice, TARGETS, SIZE, 0.5).numpy(), 3)
    assert found["false_detection_rate"] == 1.0


ALL = Augmentation(turn=True, shift=0.1, jitter=3, blank=0.3)


def scene(side: int = 32) -> tuple[Tensor, Tensor]:
    """Eight pictures of two images: in the second, but not in its reference, one white block, which has a box."""
    images, targets = torch.zeros(8, 2, side, side, dtype=torch.uint8), torch.full((8, 2, 5), -1.0)
    generator = torch.Generator().manual_seed(0)
    for row in range(8):
        left, top = torch.randint(7, side - 15, (2,), generator=generator).tolist()
        images[row, 1, top : top + 5, left : left + 8] = 255
        targets[row, 0] = torch.tensor([left, top, left + 8, top + 5, 1])
    return images, targets


def test_boxes_stay_where_their_objects_are() -> None:
    images, targets = scene()
    blank = 0
    for seed in range(8):
        varied, moved_boxes = vary_scenes(images, targets, ALL, seed, np.arange(8), 8, 1)
        for image, boxes in zip(varied, moved_boxes, strict=True):
            real = boxes[boxes[:, 4] >= 0]
            if not len(real):
                blank += not image[1].any()
                continue
            left, top, right, bottom = (int(side) for side in real[0, :4])
            inside = image[1, top:bottom, left:right]
            assert bool((inside == 255).all())
            assert int((image[1] == 255).sum()) == (right - left) * (bottom - top) == 40
            assert int(image[0].sum()) == 0
    # Of 64 pictures about 0.3 are blank; and none that is has a box.
    assert 8 <= blank <= 32


def test_each_rank_sees_its_part_of_the_same_pictures() -> None:
    images, targets = scene()
    how = ALL.model_copy(update={"noise": 9.0})
    whole = vary_scenes(images, targets, how, 3, np.arange(8), 8, 1)
    for begin in (0, 4):
        part = slice(begin, begin + 4)
        got = vary_scenes(images[part], targets[part], how, 3, np.arange(begin, begin + 4), 8, 1)
        torch.testing.assert_close(got[0], whole[0][part], rtol=0, atol=0)
        torch.testing.assert_close(got[1], whole[1][part], rtol=0, atol=0)


def test_an_object_that_is_moved_out_has_no_box() -> None:
    images, targets = scene()
    varied, boxes = vary_scenes(images, targets, Augmentation(shift=1.0), 0, np.arange(8), 8, 0)
    lost = boxes[:, 0, 4] < 0
    assert 0 < int(lost.sum()) < 8
    assert varied.shape == images.shape


def test_what_is_moved_repeats_its_edge() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    assert moved(image, 1, 0)[0].tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert moved(image, 0, -2)[0].tolist() == [[6, 7, 8], [6, 7, 8], [6, 7, 8]]
