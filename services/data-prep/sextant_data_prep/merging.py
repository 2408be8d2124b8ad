"""The pieces of a source put together again: what is known of all its rows, as if they had been read in one go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep import pieces
from sextant_data_prep.alike import Alike
from sextant_data_prep.buckets import Buckets
from sextant_data_prep.cleaning import near_of
from sextant_data_prep.domain import times
from sextant_data_prep.domain.columns import Profile, Profiles, Rules
from sextant_data_prep.domain.dictionary import Dictionary
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.pieces import GROUP, KEY, Piece
from sextant_data_prep.readers import several
from sextant_data_prep.readers.batch import ROW
from sextant_data_prep.roles import Roles, listed
from sextant_data_prep.staging import LABEL, Labels, staged
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

Codes = dict[str, NDArray[np.uint32]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece in its place: what is to be added to the numbers of its rows, and the codes here for its own."""

    directory: Path
    piece: Piece
    before: int
    labels: NDArray[np.int32]
    words: Codes

    @classmethod
    def of(cls, directory: Path, piece: Piece, before: int, labels: Labels, profiles: Profiles) -> Placed:
        """Add what the piece found to labels and profiles."""
        words: Codes = {}
        profiles.rows += piece.rows
        for name, found in piece.columns.items():
            profile = profiles.columns.setdefault(name, Profile())
            profile.present += found.present
            profile.numbers += found.numbers
            if found.words is not None:
                profile.dictionary = profile.dictionary or Dictionary()
                codes = profile.dictionary.absorb(found.words.values, found.words.counts, more=found.words.more)
                if not _is_in_order(codes):
                    words[name] = codes
        return cls(directory, piece, before, labels.absorb(piece.labels), words)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Its rows with the numbers and codes that they have here."""
        changed = [pl.col(ROW) + self.before] if self.before else []
        labels = None if _is_in_order(self.labels) else pl.Series(self.labels)
        words = {name: pl.Series(codes) for name, codes in self.words.items()}
        for number in range(len(self.piece.staged)):
            frame = pl.read_ipc(staged(self.directory / pieces.STAGING, number))
            again = [codes.gather(frame[name]).alias(name) for name, codes in words.items() if name in frame.columns]
            if labels is not None:
                again.append(labels.gather(frame[LABEL]).alias(LABEL))
            yield frame.with_columns(*changed, *again) if changed or again else frame


def _is_in_order(codes: NDArray[np.uint32] | NDArray[np.int32]) -> bool:
    return bool((codes == np.arange(len(codes))).all())


class Staged:
    """The rows of all pieces in their order."""

    def __init__(self, placed: Sequence[Placed], features: dict[str, pl.DataType]) -> None:
        self._placed, self._features = placed, features
        self.rows = sum(sum(one.piece.staged) for one in placed)

    def parts(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Frames with the number of their first row, in order; columns that one lacks are missing values."""
        first = 0
        for one in self._placed:
            for frame in one.frames():
                lacking = [pl.lit(None, dtype).alias(n) for n, dtype in self._features.items() if n not in frame]
                yield first, frame.with_columns(lacking) if lacking else frame
                first += len(frame)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What the first pass left behind."""

    roles: Roles
    ledger: Ledger
    staging: Staged
    labels: Labels
    profiles: Profiles
    numeric: frozenset[str]
    content: Buckets
    groups: Buckets | None
    alike: Alike | None
    before: dict[str, int]
    """By table the number before its first row."""

    @property
    def settled(self) -> bool:
        """Whether the columns that were read as numbers are those that are of numbers."""
        return self.roles.text is not None or self.profiles.numeric() == self.numeric


@dataclass(frozen=True, slots=True)
class Located:
    """Where a piece lies, and where it comes from."""

    directory: Path
    tables: list[str]
    """The names of the tables that it has rows of, in their order."""
    continues: bool = False
    """Whether the first of these began in the piece before."""


def merge(
    spec: PrepareSpec, roles: Roles, numeric: frozenset[str], found: Sequence[Located], out: Path, scratch: Path
) -> Cleaned:
    """Put pieces together, in their order. What they noted of rows goes to `out`, and keys of rows to `scratch`.

    Raises InvalidInput where they do not have the same columns, and for times of which some have a zone and some none.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    labels, profiles = Labels(), Profiles(Rules(spec.clean if spec.task == "tabular" else ()))
    ledger, zones = Ledger(out), times.Zones()
    placed: list[Placed] = []
    known: dict[str, None] = {}
    before: dict[str, int] = {}
    last = through = 0
    for one in found:
        piece = pieces.read(one.directory)
        if piece.header and known:
            _check_same(one, piece.known, known, found[0])
        known.update(dict.fromkeys(piece.known))
        zones.merge(piece.zoned, piece.naive)
        at = through if one.continues else last
        placed.append(Placed.of(one.directory, piece, at, labels, profiles))
        ledger.absorb(one.directory, piece.counts, at)
        for name, start in zip(one.tables, piece.starts, strict=False):
            before.setdefault(name, at + start)
        last, through = (at + piece.seen if piece.seen else last), at + piece.through
    _check(roles, profiles.rules, list(known))
    features = profiles.columns if spec.task == "tabular" else []
    rows = Staged(placed, {name: pl.Float32() if name in numeric else pl.UInt32() for name in features})
    content, groups = _keys(rows, scratch, roles)
    alike = _alike(spec, placed, scratch)
    return Cleaned(roles, ledger, rows, labels, profiles, numeric, content, groups, alike, before)


def _check_same(one: Located, names: list[str], known: dict[str, None], first: Located) -> None:
    if other := sorted(set(names) ^ set(known)):
        raise several.unlike(one.tables[0], first.tables[0], other)


def _check(roles: Roles, rules: Rules, known: list[str]) -> None:
    """Raise InvalidInput for a column that is named and that there is not."""
    roles.check(known)
    features = [name for name in known if name not in roles.taken]
    for name in sorted(rules.named().difference(features)):
        given = f"a step names the column {name[:80]!r}" + (", which is no feature" if name in known else "")
        raise InvalidInput(given, field="clean", accepted=listed(features))


def _keys(rows: Staged, scratch: Path, roles: Roles) -> tuple[Buckets, Buckets | None]:
    content = Buckets(scratch, "content")
    groups = Buckets(scratch, "group") if roles.group else None
    with content:
        for first, frame in rows.parts():
            content.add(frame[KEY].to_numpy(), first, frame[LABEL].to_numpy())
    if groups:
        with groups:
            for first, frame in rows.parts():
                groups.add(frame[GROUP].to_numpy(), first, frame[LABEL].to_numpy())
    return content, groups


def _alike(spec: PrepareSpec, placed: Sequence[Placed], scratch: Path) -> Alike | None:
    near = near_of(spec)
    if near is None:
        return None
    paths = [one.directory / pieces.SIGNATURES for one in placed]
    if len(paths) == 1:
        return Alike(scratch, paths[0], near)
    whole = scratch / pieces.SIGNATURES
    with whole.open("wb") as out:
        for path in paths:
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, out)
    return Alike(scratch, whole, near)
