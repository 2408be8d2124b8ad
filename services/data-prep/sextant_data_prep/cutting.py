"""Where a large source is cut into pieces that are cleaned by themselves, and by what each of these is known.

A piece is known by the hash of what it is made of: the bytes of its rows, what the spec says of cleaning, and the code
that cleans. So a source that has grown finds the pieces that it had before.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sextant_data_prep import sections
from sextant_data_prep.readers import BY_SUFFIX, arrow, blocks, csv_blocks, json_blocks, parquet, several
from sextant_data_prep.sections import Section
from sextant_data_prep.sources import Documents, Source, Table
from sextant_shared import damage
from sextant_shared.contracts import annotations as boxes
from sextant_shared.contracts import cleaning
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

SHARED = (boxes, cleaning, damage)
"""What others use as well."""
PACKAGES = ("numpy", "pillow", "polars", "pyarrow", "xxhash")
"""Those whose version can change what a piece is."""


class Texts(Section):
    """Documents of a folder."""

    splits: bool
    """Whether the folders above classes say splits."""
    first: bool
    """Whether none comes before them: numbers begin at 0 there."""


class Cut(BaseModel):
    """A piece of a source: whole tables, the part [begin, end) of one in the units of its reader, or documents."""

    tables: list[tuple[str, str | None]]
    """By name, with the split that it says."""
    begin: int = 0
    end: int | None = None
    content: str
    """The hash of the bytes."""
    texts: Texts | None = None

    @property
    def names(self) -> list[str]:
        """Of the tables, or of the documents."""
        return [name for name, _ in self.tables] if self.texts is None else self.texts.names


def cut(source: Source, least: int) -> list[Cut]:
    """The pieces of a source, in its order, of at least `least` bytes each where it has more; else one or none."""
    if source.documents is not None:
        return _of_texts(source.documents, least, splits=source.splits)
    sizes = [table.path.stat().st_size for table in source.tables]
    if sum(sizes) <= least:
        return []
    found: list[Cut] = []
    waiting: list[Table] = []
    held = 0
    for table, size in zip(source.tables, sizes, strict=True):
        if size <= least:
            waiting.append(table)
            held += size
        if waiting and (held >= least or size > least):
            found.append(_whole(waiting))
            waiting, held = [], 0
        if size > least:
            found += _parts(table, least)
    return [*found, _whole(waiting)] if waiting else found


def known_by(piece: Cut, spec: PrepareSpec, numeric: Sequence[str]) -> str:
    """The hash of all that a piece is made of."""
    declared = spec.model_dump(mode="json", include={"task", "target", "text", "clean", "seed"})
    columns = spec.split.model_dump(mode="json", include={"column", "group", "time"})
    # Names of tables change nothing but messages; the splits that they say do.
    tables = [(Path(name).suffix.lower(), split) for name, split in piece.tables]
    whole = [declared, columns, list(numeric), tables, piece.content, code()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def code() -> str:
    """The hash of the code that cleans, its own and that of others."""
    digest = hashlib.sha256()
    own = sorted(Path(__file__).parent.rglob("*.py"))
    for path in [*own, *(Path(str(module.__file__)) for module in SHARED)]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    versions = [platform.python_version(), *(version(package) for package in PACKAGES)]
    return hashlib.sha256(digest.digest() + json.dumps(versions).encode()).hexdigest()


def _of_texts(documents: Documents, least: int, *, splits: bool) -> list[Cut]:
    found = []
    for number, section in enumerate(sections.cut(documents.root, documents.files, least, size_of)):
        texts = Texts(paths=section.paths, content=section.content, splits=splits, first=number == 0)
        how = f"{'split' if splits else 'whole'}-{'first' if texts.first else 'later'}"
        found.append(Cut(tables=[], content=f"{how}-{section.content}", texts=texts))
    return found


def _whole(tables: Sequence[Table]) -> Cut:
    hashes = [_file(table.path) for table in tables]
    content = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Cut(tables=[(table.name, table.split) for table in tables], content=content)


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


def _file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parts(table: Table, least: int) -> Iterator[Cut]:
    named = [(table.name, table.split)]
    ranges = RANGES[BY_SUFFIX[table.path.suffix.lower()]]
    try:
        for begin, end, content in ranges(table.path, least):
            yield Cut(tables=named, begin=begin, end=end, content=content)
    except InvalidInput as error:
        raise (several.of_table(table.name, error) if table.name else error) from None


Ranges = Iterator[tuple[int, int, str]]
"""[begin, end), and the hash of the bytes there."""


def _of_csv(path: Path, least: int) -> Ranges:
    return _of_bytes(path, least, csv_blocks.header_size(path), csv_blocks.whole_rows)


def _of_json(path: Path, least: int) -> Ranges:
    return _of_bytes(path, least, 0, lambda data: blocks.whole_lines(data, last=False))


def _of_bytes(path: Path, least: int, header: int, whole: Callable[[bytes], int]) -> Ranges:
    """Parts that end where a row does. The header counts for each of them."""
    with path.open("rb") as stream:
        head = hashlib.sha256(stream.read(header))
        digest, begin, at, rest = head.copy(), 0, header, b""
        while chunk := stream.read(blocks.BLOCK):
            data = rest + chunk
            used = whole(data) if len(data) <= blocks.MAX_LINE else 0
            digest.update(data[:used])
            at, rest = at + used, data[used:]
            if used and at - begin >= least:
                yield begin, at, _placed(digest, begin)
                digest, begin = head.copy(), at
            if len(rest) > blocks.MAX_LINE:
                break  # The reader refuses it, and says where.
        digest.update(rest)
        end = path.stat().st_size
        if end > max(begin, header):
            yield begin, end, _placed(digest, begin)


def _placed(digest: Any, begin: int) -> str:
    # Lines are counted from the header on in the first part, and from 1 in any other.
    return f"{'rows' if begin else 'header'}-{digest.hexdigest()}"


def _of_units(sizes: Callable[[Path], list[int]]) -> Callable[[Path, int], Ranges]:
    def ranges(path: Path, least: int) -> Ranges:
        content, begin, held = _file(path), 0, 0
        units = sizes(path)
        for number, size in enumerate(units, 1):
            held += size
            if held >= least or number == len(units):
                yield begin, number, f"{begin}-{number}-{content}"
                begin, held = number, 0

    return ranges


RANGES: dict[Any, Callable[[Path, int], Ranges]] = {
    csv_blocks.read: _of_csv,
    json_blocks.read: _of_json,
    parquet.read: _of_units(parquet.sizes),
    arrow.read: _of_units(arrow.sizes),
}
