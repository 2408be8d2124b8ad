"""Detectors in training: maps of boxes and back, figures by bins, and pictures that are varied with their boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.augmentation import Augmentation
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.recipe import Code, Recipe, fitted
from sextant_trainer.training.study import Seen
from sextant_trainer.training.tasks import Task, open_task, scoring
from sextant_trainer.training.tasks.boxes import detection_loss, encode, imitation_loss
from sextant_trainer.training.tasks.scenes import Variation, moved, vary_scenes
from sextant_zoo.detecting import NOTHING, decode

MakeTask = Callable[..., Task]
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
        varied, moved_boxes = vary_scenes(images, targets, Variation(ALL, 1, None), seed, np.arange(8), 8)
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
    how = ALL.model_copy(update={"noise": 9.0, "scale": 0.2})
    kind = Variation(how, 1, torch.tensor([0, 2, 1]))
    whole = vary_scenes(images, targets, kind, 3, np.arange(8), 8)
    for begin in (0, 4):
        part = slice(begin, begin + 4)
        got = vary_scenes(images[part], targets[part], kind, 3, np.arange(begin, begin + 4), 8)
        torch.testing.assert_close(got[0], whole[0][part], rtol=0, atol=0)
        torch.testing.assert_close(got[1], whole[1][part], rtol=0, atol=0)


def test_an_object_that_is_moved_out_has_no_box() -> None:
    images, targets = scene()
    varied, boxes = vary_scenes(images, targets, Variation(Augmentation(shift=1.0), 0, None), 0, np.arange(8), 8)
    lost = boxes[:, 0, 4] < 0
    assert 0 < int(lost.sum()) < 8
    assert varied.shape == images.shape


def test_boxes_grow_with_their_objects() -> None:
    images, targets = scene(64)
    varied, boxes = vary_scenes(images, targets, Variation(Augmentation(scale=0.5), 0, None), 1, np.arange(8), 8)
    areas = []
    for image, box in zip(varied, boxes[:, 0], strict=True):
        rows, columns = (torch.nonzero(image[1].any(axis)).flatten() for axis in (1, 0))
        if box[4] >= 0:
            seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert bool(((seen - box[:4]).abs() <= 1).all())
            areas.append(int((image[1] == 255).sum()))
    assert min(areas) < 40 < max(areas)


def test_half_of_an_object_is_of_the_other_class() -> None:
    images = torch.zeros(8, 2, 64, 64, dtype=torch.uint8)
    images[:, :, 20:44] = 255
    images[:, 1, 20:44, 28:34] = 0
    targets = torch.tensor([[[23.0, 15.0, 39.0, 49.0, 1.0]]]).repeat(8, 1, 1)
    kind = Variation(Augmentation(), 1, halved=(0, 2, 2))
    whole = vary_scenes(images, targets, kind, 3, np.arange(8), 8)
    names = whole[1][:, 0, 4]
    assert 0 < int((names == 2).sum()) < 8
    same = (whole[0] == images).flatten(1).all(1)
    assert torch.equal(same, names == 1)
    part = vary_scenes(images[4:], targets[4:], kind, 3, np.arange(4, 8), 8)
    assert torch.equal(part[0], whole[0][4:])
    assert torch.equal(part[1], whole[1][4:])


def test_in_a_negative_a_box_is_of_the_other_class() -> None:
    images, targets = scene()
    kind = Variation(Augmentation(), 1, torch.tensor([0, 2, 1]))
    varied, boxes = vary_scenes(images, targets, kind, 0, np.arange(8), 8)
    negative = varied[:, 0].flatten(1).all(1)
    assert 0 < int(negative.sum()) < 8
    assert torch.equal(varied[negative], 255.0 - images[negative])
    assert torch.equal(varied[~negative], images[~negative].float())
    assert torch.equal(boxes[:, 0, 4], torch.where(negative, 2.0, 1.0))
    assert bool((boxes[:, 1, 4] == -1).all())


def test_what_is_moved_repeats_its_edge() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    assert moved(image, 1, 0)[0].tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert moved(image, 0, -2)[0].tolist() == [[6, 7, 8], [6, 7, 8], [6, 7, 8]]


def test_pictures_that_fill_up_a_batch_count_for_nothing(make_task: MakeTask) -> None:
    task = make_task()
    torch.manual_seed(0)
    outputs = torch.randn(6, 6, 8, 8)
    _, whole = task.batch("val", np.arange(4))
    _, padded = task.padded("val", np.arange(6))
    torch.testing.assert_close(task.sums(outputs, padded), task.sums(outputs[:4], whole))
    _, void = task.padded("val", np.arange(4, 6))
    nothing = task.sums(outputs[:2], void)
    assert nothing.shape == task.sums(outputs, padded).shape
    assert not nothing.any()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"label_smoothing": 0.1}, "config.label_smoothing"),
        ({"class_weights": "balanced"}, "config.class_weights"),
        ({"calibrate": True}, "config.calibrate"),
        ({"augment": {"rotate": 5.0}}, "config.augment.rotate"),
        ({"augment": {"negative": {"gap": "scratch"}}}, "config.augment.negative"),
        ({"augment": {"negative": {"gap": "gap"}}}, "config.augment.negative"),
        ({"augment": {"halve": {"gap": "scratch"}}}, "config.augment.halve"),
        ({"augment": {"halve": {"scratch": "gap"}}}, "config.augment.halve"),
        ({"augment": {"halve": {"gap": "gap"}}}, "config.augment.halve"),
    ],
)
def test_settings_that_are_not_for_boxes_are_refused(make_task: MakeTask, config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_task(**config)
    assert caught.value.field == field


def test_without_a_reference_nothing_is_moved_against_it(make_task: MakeTask) -> None:
    make_task(augment={"jitter": 2})
    with pytest.raises(InvalidInput, match="no reference"):
        make_task(parts=[2], augment={"jitter": 2})
    with pytest.raises(InvalidInput, match="and its reference") as caught:
        make_task(parts=[2], augment={"halve": {"gap": "spot"}})
    assert caught.value.field == "config.augment.halve"


def test_each_rank_sees_its_part_of_what_is_put_into_pictures(make_task: MakeTask) -> None:
    task = make_task(augment={"paste": 2, "halve": {"gap": "spot"}, "noise": 5.0})
    order = GlobalOrder(task.rows("train"), 4, 0)
    images, targets = task.train_batch(order, 0, slice(0, 4))
    # As many as a picture has at most, and room for what comes.
    assert targets.shape == (4, 3 + 2, 5)
    for begin in (0, 2):
        part = slice(begin, begin + 2)
        some, theirs = task.train_batch(order, 0, part)
        torch.testing.assert_close(some, images[part], rtol=0, atol=0)
        torch.testing.assert_close(theirs, targets[part], rtol=0, atol=0)


def test_classes_change_places_in_a_negative(make_task: MakeTask) -> None:
    task = make_task(augment={"negative": {"gap": "spot"}})
    order, rows = GlobalOrder(task.rows("train"), 4, 0), slice(0, 4)
    _, targets = task.batch("train", order.batch_at(0)[rows])
    _, varied = task.train_batch(order, 0, rows)
    real = targets[:, :, 4] >= 0
    other = (targets[:, :, 4] != varied[:, :, 4]).any(1)
    assert 0 < int(other.sum()) < 4
    assert torch.equal(varied[other][:, :, 4][real[other]], 1 - targets[other][:, :, 4][real[other]])
    assert torch.equal(varied[~other], targets[~other])


def test_only_a_pair_is_aligned(make_task: MakeTask) -> None:
    recipe = Recipe("detector", {"align": 4}, TrainConfig())
    assert fitted(recipe, make_task()) == recipe
    alone = make_task(parts=[2])
    with pytest.raises(InvalidInput, match="not of a reference") as caught:
        fitted(recipe, alone)
    assert caught.value.field == "model.config.align"
    # To a user's own model it may mean anything.
    own = replace(recipe, zoo="pkg.mod:build", code=Code(Path("code"), Path("code.zip"), "0" * 64))
    assert fitted(own, alone) == own


def test_pictures_come_with_their_boxes_whatever_the_ranks(make_task: MakeTask) -> None:
    task = make_task(augment={"turn": True, "noise": 5.0})
    inputs, targets = task.batch("val", np.array([3, 1]))
    assert inputs.shape == (2, 2, 64, 64)
    # Row r has r boxes of the class r % 2, the first of them at (r, r).
    assert (targets[:, :, 4] >= 0).sum(1).tolist() == [3, 1]
    assert targets[0, 0].tolist() == [3, 3, 11, 11, 1]
    order = GlobalOrder(task.rows("train"), 4, 0)
    whole = task.train_batch(order, 2, slice(0, 4))
    parts = [task.train_batch(order, 2, slice(begin, begin + 2)) for begin in (0, 2)]
    for index in (0, 1):
        torch.testing.assert_close(whole[index], torch.cat([part[index] for part in parts]), rtol=0, atol=0)


def test_the_report_has_the_worst_picture_with_its_boxes(make_task: MakeTask) -> None:
    task = make_task()
    _, targets = task.batch("val", np.arange(4))
    outputs = maps_for(targets)
    outputs[2, :2] = -9.0
    found = task.study(Seen(np.arange(4), outputs, targets))
    assert found.classes == ["gap", "spot", "(nothing)"]
    # Of 0 + 1 + 2 + 3 boxes those of row 2 were missed.
    assert found.confusion == [[0, 0, 2], [0, 4, 0], [0, 0, 0]]
    assert (found.worst[0].row, found.worst[0].loss) == (2, 2.0)
    assert found.worst[0].image.startswith("data:image/png;base64,")


def maps_for(targets: Tensor) -> Tensor:
    wanted = encode(targets, 2, (8, 8), (64, 64))
    middle = (torch.arange(8) + 0.5) * 8
    left, top, right, bottom = wanted.boxes.unbind(1)
    sides = [middle - left, middle.view(-1, 1) - top, right - middle, bottom - middle.view(-1, 1)]
    return torch.cat([(wanted.heat - 0.5) * 12, torch.stack(sides, 1) / 8], 1)


@pytest.fixture
def make_task(tmp_path: Path) -> MakeTask:
    """A version of four rows a split, opened with a config."""

    def make(parts: Sequence[int] = (1, 1), **config: Any) -> Task:
        shape, rows = [2, 64, 64], range(4)
        pixels = pa.array(np.random.default_rng(0).integers(0, 256, 4 * 2 * 64 * 64, np.uint8))
        boxes = [[[row + 16 * n, row, row + 16 * n + 8, row + 8] for n in range(row)] for row in rows]
        columns = {
            "image": pa.FixedSizeListArray.from_arrays(pixels, 2 * 64 * 64),
            "boxes": pa.array(boxes, pa.list_(pa.list_(pa.float32(), 4))),
            "classes": pa.array([[row % 2] * row for row in rows], pa.list_(pa.int32())),
            "id": pa.array(rows, pa.int64()),
        }
        table = pa.table(columns)
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about = {
            "task": "defect-detection",
            "features": [{"name": "image", "dtype": "uint8", "shape": shape, "images": list(parts)}],
            "target": {"name": "boxes", "classes": ["gap", "spot"]},
            "statistics": {"image": {"mean": [127.0, 127.0], "std": [70.0, 0.0]}},
            "splits": {split: {"files": ["a.arrow"], "rows": 4} for split in ("train", "val", "test")},
        }
        (tmp_path / "dataset.json").write_text(json.dumps(about))
        return open_task(tmp_path, TrainConfig.model_validate(config), {})

    return make
