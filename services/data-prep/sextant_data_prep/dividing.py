"""A large preparation shared among workers: divided into pieces, each cleaned alone, and put together (ADR 0020)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sextant_data_prep import cutting, merging, rows, sources
from sextant_data_prep.cleaning import Cleaner, Say
from sextant_data_prep.cutting import Cut
from sextant_data_prep.merging import Cleaned, Located
from sextant_data_prep.readers import reader
from sextant_data_prep.roles import Roles
from sextant_data_prep.sources import Source, Table
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.execution.workbench import Divided, Parts, Piece, Result

PIECE_BYTES = 64 << 20
Upload = Callable[[Collection[str] | None], Path]
"""The upload on this machine; of an archive the files of these names alone."""


class Plan(BaseModel):
    """What is known of the whole when it is put together."""

    cuts: list[Cut]
    splits: bool
    """Whether names of tables, or folders of documents, say splits."""
    documents: bool
    numeric: list[str]
    passes: int
    """How often the source was divided."""


class Order(BaseModel):
    """What a worker is told of its piece."""

    cut: Cut
    numeric: list[str]


def divide(spec: PrepareSpec, source: Source, cuts: list[Cut], scratch: Path, say: Say) -> Divided:
    """The pieces of a source that is cleaned for the first time."""
    documents = source.documents is not None
    roles = Roles.of(spec, documents=documents, splits=source.splits)
    numeric = Cleaner(spec, source, roles, scratch, say).guess()
    plan = Plan(cuts=cuts, splits=source.splits, documents=documents, numeric=sorted(numeric), passes=1)
    return _divided(spec, plan)


def clean(spec: PrepareSpec, order: dict[str, Any], upload: Upload, out: Path, say: Say) -> Result:
    """Clean one piece; its directory is `out`."""
    mine = Order.model_validate(order)
    path = upload(mine.cut.names)
    source = _section(path, mine.cut)
    roles = Roles.of(spec, documents=source.documents is not None, splits=source.splits)
    Cleaner(spec, source, roles, out, say).clean(frozenset(mine.numeric))
    return Result(outputs={"piece": [] if mine.cut.texts else mine.cut.names})


def _section(path: Path, cut: Cut) -> Source:
    if cut.texts is not None:
        files = [path / name for name in cut.texts.names]
        return sources.of_documents(path, files, splits=cut.texts.splits, first=cut.texts.first)
    tables = [Table(name, path / name, split) for name, split in cut.tables]
    if tables[0].name:
        return sources.together(tables, cut.begin, cut.end)
    return Source(reader(tables[0].path, cut.begin, cut.end), tables=tuple(tables))


def put_together(spec: PrepareSpec, parts: Parts, out: Path, scratch: Path) -> Cleaned | Divided:
    """The cleaned rows of all pieces, or other pieces where columns turned out to be of other types."""
    plan = Plan.model_validate(parts.note)
    roles = Roles.of(spec, documents=plan.documents, splits=plan.splits)
    pieces: list[Located] = []
    for directory, cut in zip(parts.directories, plan.cuts, strict=True):
        tables = [name for name, _ in cut.tables]
        pieces.append(Located(Path(directory), tables, continues=cut.begin > 0))
    cleaned = merging.merge(spec, roles, frozenset(plan.numeric), pieces, out, scratch)
    if not cleaned.settled and plan.passes < rows.PASSES:
        cleaned.ledger.restart()
        numeric = sorted(cleaned.profiles.numeric())
        return _divided(spec, plan.model_copy(update={"numeric": numeric, "passes": plan.passes + 1}))
    rows.check(spec, cleaned)
    return cleaned


def _divided(spec: PrepareSpec, plan: Plan) -> Divided:
    pieces = [
        Piece(
            digest=cutting.known_by(cut, spec, plan.numeric),
            order=Order(cut=cut, numeric=plan.numeric).model_dump(mode="json"),
        )
        for cut in plan.cuts
    ]
    return Divided(pieces=pieces, note=plan.model_dump(mode="json"))
