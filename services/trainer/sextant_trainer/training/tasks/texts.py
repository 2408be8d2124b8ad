"""Classes of texts: token numbers of a tokenizer, in batches of like lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.study import Worst
from sextant_trainer.training.tasks.classification import Classes
from sextant_trainer.training.tasks.tokenizing import Tokens, open_tokenizer, vocabulary_of
from sextant_zoo.pretrained import FIELD, Weights

WINDOW = 4
"""Batches whose texts are sorted by length together: more would save little, and cost accuracy where texts are few."""
STEP = 8
"""Inputs of the served model are a multiple of as many tokens long."""


class Texts(Classes):
    """Inputs (batch, longest) int64, filled up with the padding token; targets (batch,)."""

    name = "text-classification"

    def __init__(
        self, directory: Path, config: TrainConfig, settings: dict[str, Any], weights: Weights | None, *, fixed: bool
    ) -> None:
        """`settings` are the architecture's; `fixed` fills all batches up to one length.

        Raises InvalidInput where the tokenizer has more tokens than the model.
        """
        about = json.loads((directory / "dataset.json").read_text())
        self.padding = int(settings.get("padding") or 0)
        tables = {name: _table(directory, split["files"]) for name, split in about["splits"].items()}
        self._labels = {name: table["label"].to_numpy().astype(np.int64) for name, table in tables.items()}
        super().__init__(config, about["target"]["classes"], [self._labels["train"]])
        self.insist_on_validation(self._labels["val"])
        texts = {name: table["text"].to_pylist() for name, table in tables.items()}
        if weights is not None and weights.tokenizer is not None:
            self.tokenizer = _read(weights.tokenizer)
        else:
            self.tokenizer = vocabulary_of(texts["train"], settings["vocabulary"], self.padding)
        self._ids, self._shown = tables["val"]["id"].to_numpy(), texts["val"]
        encode = open_tokenizer(self.tokenizer)
        if encode.size > settings["vocabulary"]:
            given = f"the tokenizer has {encode.size} tokens, and the model {settings['vocabulary']}"
            raise InvalidInput(given, field="model.config.vocabulary", accepted=f"{encode.size} or more")
        self._tokens: dict[str, Tokens] = {name: encode(lines, settings["sequence"]) for name, lines in texts.items()}
        longest = max(1, int(self._tokens["train"].lengths.max()))
        self.shape = (min(settings["sequence"], -(-longest // STEP) * STEP),)
        self._vocabulary = settings["vocabulary"]
        # An architecture that has no padding token looks at all tokens: its texts are as long as those that it serves.
        self._fixed = fixed or "padding" not in settings
        # Where the order counts for nothing, like lengths go together.
        self._sorted = {name: np.argsort(tokens.lengths, kind="stable") for name, tokens in self._tokens.items()}
        self._window: tuple[int, NDArray[np.int64]] = (-1, np.empty((0, 0), np.int64))

    def rows(self, split: str) -> int:
        """Texts of a split."""
        return len(self._labels[split])

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Of the texts in the order of their lengths."""
        return self._batch(split, self._sorted[split][rows], rows)

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """The texts of some steps of the order together, shared out to these by their lengths."""
        whole = self._batch_at(order, step)
        return self._batch("train", whole[rows], whole)

    def shown(self, row: int) -> Worst:
        """As its text."""
        at = int(self._sorted["val"][row])
        return Worst(int(self._ids[at]), 0.0, text=self._shown[at])

    def describe(self) -> dict[str, Any]:
        """The length of inputs, and what fills up the short ones."""
        return {
            "input": {"name": "input", "shape": list(self.shape), "dtype": "int64"},
            "preprocessing": {
                "tokenizer": "tokenizer.json",
                "length": self.shape[0],
                "padding": self.padding,
                "vocabulary": self._vocabulary,
            },
            **self.described(),
        }

    def files(self) -> dict[str, str]:
        """The tokenizer, which a model is of no use without."""
        return {"tokenizer.json": self.tokenizer}

    def _batch(self, split: str, rows: NDArray[np.int64], together: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """`together` are the rows of all ranks: their batches have one length."""
        tokens, limit = self._tokens[split], self.shape[0]
        length = limit if self._fixed else max(1, min(limit, int(tokens.lengths[together].max())))
        filled = np.full((len(rows), length), self.padding, np.int64)
        for place, row in enumerate(rows):
            part = tokens.of(row)[:length]
            filled[place, : len(part)] = part
        return torch.from_numpy(filled), self.targets_of(self._labels[split][rows])

    def _batch_at(self, order: GlobalOrder, step: int) -> NDArray[np.int64]:
        window, place = divmod(step, WINDOW)
        if self._window[0] != window:
            rows = np.concatenate([order.batch_at(window * WINDOW + index) for index in range(WINDOW)])
            by_length = rows[np.argsort(self._tokens["train"].lengths[rows], kind="stable")].reshape(WINDOW, -1)
            mixed = np.random.default_rng([order.seed, window]).permutation(WINDOW)
            self._window = (window, by_length[mixed])
        at: NDArray[np.int64] = self._window[1][place]
        return at


def _table(directory: Path, files: list[str]) -> pa.Table:
    tables = []
    for file in files:
        with pa.memory_map(str(directory / file)) as source:
            tables.append(pa.ipc.open_file(source).read_all())
    return pa.concat_tables(tables).combine_chunks()


def _read(path: Path) -> str:
    """The definition of a tokenizer that came with weights. Raises InvalidInput where it is none."""
    try:
        definition = path.read_text(encoding="utf-8")
        open_tokenizer(definition)
    except Exception as error:  # noqa: BLE001 - the library raises it bare
        raise InvalidInput(f"{path.name} of the weights cannot be read: {str(error)[:200]}", field=FIELD) from None
    return definition
