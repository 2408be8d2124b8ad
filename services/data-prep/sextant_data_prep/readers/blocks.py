"""A file in blocks of whole rows, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from sextant_data_prep.readers.batch import Batch
from sextant_shared.errors import InvalidInput

BLOCK = 8 << 20
FIRST = 1 << 18
"""The first block is small: what columns are is guessed from it, before all is read."""
MAX_LINE = 64 << 20
NEWLINE, RETURN, QUOTE, COMMA = 10, 13, 34, 44
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came out of a block: its rows, and how many bytes and line ends were used for them."""

    batch: Batch
    used: int
    lines: int


Parse = Callable[[bytes, int, bool], Parsed]
"""Is given what is there, the number of its first line, and whether it is the rest of the file."""


class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""


class Section:
    """The bytes [begin, end) of a file; up to its end where `end` is None."""

    def __init__(self, stream: IO[bytes], begin: int, end: int | None) -> None:
        self._stream = stream
        self._left = end - begin if end is not None else None
        stream.seek(begin)

    def read(self, size: int, /) -> bytes:
        """The next bytes of the section."""
        chunk = self._stream.read(size if self._left is None else min(size, self._left))
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


def parsed(stream: Stream, line: int, parse: Parse) -> Iterator[Batch]:
    """The batches of what the stream has, from the line with this number on."""
    rest, last, size = b"", False, min(FIRST, BLOCK)
    while not last:
        chunk = stream.read(size)
        size = BLOCK
        rest, last = rest + chunk, not chunk
        if not rest:
            return
        found = parse(rest, line, last)
        rest, line = rest[found.used :], line + found.lines
        if found.used:
            yield Batch(found.batch.frame, found.batch.bad, line - 1)
        if len(rest) > MAX_LINE:
            raise InvalidInput(f"line {line} is longer than {MAX_LINE} bytes", field="source", accepted="shorter lines")


def whole_lines(data: bytes, last: bool) -> int:
    """How many bytes are whole lines."""
    return len(data) if last else data.rfind(b"\n") + 1


def places(buffer: Bytes, byte: int) -> Places:
    """Where the byte stands."""
    return np.flatnonzero(buffer == byte)


def has_lone_return(data: bytes, buffer: Bytes) -> bool:
    """Whether a carriage return stands without a newline behind it: an old kind of line end."""
    if b"\r" not in data:
        return False
    returns = places(buffer, RETURN)
    return bool(returns[-1] == len(buffer) - 1 or (buffer[returns + 1] != NEWLINE).any())
