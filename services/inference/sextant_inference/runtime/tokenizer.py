"""Texts to the token numbers that a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_shared.errors import InvalidInput


class Tokenizer:
    """Cuts texts at the model's length, and fills up the short ones."""

    def __init__(self, directory: Path, about: Mapping[str, Any]) -> None:
        """`about` names the file, the length and the padding. Raises InvalidInput where the file cannot be read."""
        from tokenizers import Tokenizer as Library

        path = directory / Path(str(about["file"])).name
        try:
            self._library: Any = Library.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the library raises nothing more special
            raise InvalidInput(f"the tokenizer {path.name} cannot be read: {error}", field="model") from None
        self._length, self._padding = int(about["length"]), int(about["padding"])
        self._library.no_padding()
        self._library.enable_truncation(self._length)

    def __call__(self, texts: NDArray[Any]) -> NDArray[np.int64]:
        """(batch,) -> (batch, length)."""
        filled = np.full((len(texts), self._length), self._padding, np.int64)
        for row, encoded in enumerate(self._library.encode_batch(texts.tolist())):
            filled[row, : len(encoded.ids)] = encoded.ids
        return filled
