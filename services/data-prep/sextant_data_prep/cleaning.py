"""The first pass: rows of a piece are read, judged, cleaned, and staged with a key for the content of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import numpy as np
import polars as pl

from sextant_data_prep import pieces
from sextant_data_prep.alike import write_signatures
from sextant_data_prep.domain import text_steps, times
from sextant_data_prep.domain.columns import Profile, Profiles, Rules
from sextant_data_prep.domain.keys import row_keys
from sextant_data_prep.domain.splitting import NAMES
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.pieces import GROUP, KEY, SPLIT, TIME, Found, Piece, Words
from sextant_data_prep.readers.ahead import ahead, mapped
from sextant_data_prep.readers.batch import ROW
from sextant_data_prep.roles import Roles
from sextant_data_prep.sources import Source
from sextant_data_prep.staging import LABEL, Labels, Staging
from sextant_shared.contracts.cleaning import Deduplicate
from sextant_shared.contracts.specs import PrepareSpec

Say = Callable[[float, str, dict[str, float]], None]
"""Takes progress: a fraction of 1, words, figures."""
READING = 0.05
TEXTS = 16_384
"""Texts that a thread works on at a time."""


@dataclass(slots=True)
class TextsDone:
    """Texts that went through the steps, and what is to be noted of them."""

    frame: pl.DataFrame
    out: list[tuple[pl.DataFrame, str | None]] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reasons: pl.Series, step: str | None) -> None:
        """Take out the rows that have a reason; without a step they are bad ones."""
        if reasons.null_count() < len(reasons):
            given = reasons.is_not_null()
            out = pl.DataFrame({"row": self.frame[ROW].filter(given), "reason": reasons.filter(given)})
            self.out.append((out, step))
            self.frame = self.frame.filter(~given)


class Cleaner:
    """Cleans the rows of a source, or of a piece of it, into a directory."""

    def __init__(self, spec: PrepareSpec, source: Source, roles: Roles, directory: Path, say: Say) -> None:
        """Files are made below `directory`. How many rows were read is said after each batch."""
        self.spec, self.source, self.roles, self.say = spec, source, roles, say
        self.rules = Rules(spec.clean if spec.task == "tabular" else ())
        self.directory = directory
        self.table = spec.task == "tabular"

    def guess(self) -> frozenset[str]:
        """Which columns are read as numbers, by the first rows."""
        profiles = Profiles(self.rules)
        for batch in self.source.read((), self.rules.nulls) if self.table else ():
            if len(batch.frame):
                profiles.add(self._features(batch.frame), len(batch.frame))
                break
        return profiles.numeric()

    def clean(self, numeric: frozenset[str]) -> None:
        """Read and clean all; what lay in the directory goes."""
        rmtree(self.directory, ignore_errors=True)
        (self.directory / pieces.STAGING).mkdir(parents=True)
        self.ledger, self.zones = Ledger(self.directory), times.Zones()
        self.known: dict[str, None] = {}
        self.header = False
        self.seen = self.through = 0
        profiles, staging, labels = Profiles(self.rules), Staging(self.directory / pieces.STAGING), Labels()
        labelled = self._labelled(numeric)
        tables = (self._table(frame, profiles, numeric) for frame in labelled)
        with ExitStack() as stack:
            near = near_of(self.spec) is not None
            signatures = stack.enter_context((self.directory / pieces.SIGNATURES).open("wb")) if near else None
            for cleaned in tables if self.table else self._texts(labelled):
                if cleaned.is_empty():
                    continue
                kept = self._kept(cleaned).with_columns(pl.Series(LABEL, labels.encode(cleaned[self.roles.target])))
                staging.add(kept.with_columns(self._keys(cleaned, kept, profiles)))
                if signatures:
                    write_signatures(signatures, kept[self.roles.text or ""])
        self.ledger.sort()
        found = {name: _found(profile) for name, profile in profiles.columns.items()}
        piece = Piece(
            counts=self.ledger.counts(),
            labels=labels.names,
            known=list(self.known),
            header=self.header,
            rows=profiles.rows,
            columns=found,
            staged=staging.rows,
            zoned=self.zones.zoned,
            naive=self.zones.naive,
            starts=list(self.source.before.values()) or [0],
            seen=self.seen,
            through=self.through,
        )
        (self.directory / pieces.NAME).write_text(piece.model_dump_json())

    def _features(self, frame: pl.DataFrame) -> pl.DataFrame:
        taken = {*self.roles.taken, TIME, ROW}
        return frame.select(n for n in frame.columns if n not in taken and self.rules.declared(n) != "ignore")

    def _labelled(self, numeric: frozenset[str]) -> Iterator[pl.DataFrame]:
        """The frames of the source, without the rows that have no label, or no split where a column says it."""
        for batch in ahead(self.source.read(numeric, self.rules.nulls)):
            frame = batch.frame
            self.known.update(dict.fromkeys(name for name in frame.columns if name != ROW))
            if frame.is_empty() and self.known:
                self.header = True
                self.roles.check(list(self.known))
            self.ledger.read += len(frame) + len(batch.bad)
            self.ledger.bad(batch.bad)
            self.through = max(self.through, batch.through)
            numbers = frame[ROW].to_numpy() if ROW in frame else np.empty(0, np.int64)
            self.seen = max(self.seen, int(numbers.max(initial=0)), *(row for row, _ in batch.bad))
            self.say(READING, "reading", {"rows": float(self.ledger.read)})
            for name in (self.roles.target, self.roles.text, self.roles.split, self.roles.group, self.roles.time):
                if name and name not in frame.columns:
                    frame = frame.with_columns(pl.lit(None, pl.String).alias(name))
            if self.roles.time:
                self.zones.add(frame[self.roles.time])
                frame = frame.with_columns(times.microseconds(self.roles.time).alias(TIME))
            frame = self.ledger.screen(frame, ROW, frame.select(self._unusable()).to_series())
            if len(frame):
                yield frame

    def _unusable(self) -> pl.Expr:
        label = pl.col(self.roles.target)
        why: pl.Expr = pl.when(label.is_in(["nan", "NaN", "NAN"])).then(pl.lit("the label is NaN"))
        why = pl.when(label.is_null()).then(pl.lit("the label is missing")).otherwise(why)
        if self.roles.split:
            named = pl.col(self.roles.split).str.to_lowercase().is_in(list(NAMES)).fill_null(value=False)
            why = pl.when(~named).then(pl.lit("its split is none of train, val, test")).otherwise(why)
        if self.roles.group:
            why = pl.when(pl.col(self.roles.group).is_null()).then(pl.lit("its group is missing")).otherwise(why)
        if self.roles.time:
            why = pl.when(pl.col(TIME).is_null()).then(pl.lit("its time cannot be read")).otherwise(why)
        return why.alias("reason")

    def _text(self, frame: pl.DataFrame) -> TextsDone:
        """Go through the steps. Nothing is noted yet: this runs in threads, and the ledger is kept in order."""
        text = self.roles.text or ""
        done = TextsDone(frame.with_columns(frame[text].str.strip_chars().alias(text)))
        done.leave_out(_where(done.frame[text].fill_null("") == "", "the text is empty"), None)
        for step in self.spec.clean:
            before = done.frame[text]
            after = text_steps.changed(before, step)
            if after is not before:
                done.changed[step.do] += int((after != before).sum())
                done.frame = done.frame.with_columns(after.alias(text))
                done.leave_out(_where(after == "", "nothing was left of the text"), step.do)
            reasons = text_steps.reason(done.frame[text], step)
            if reasons is not None:
                done.leave_out(reasons, step.do)
        return done

    def _texts(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        parts = (frame[first : first + TEXTS] for frame in frames for first in range(0, len(frame), TEXTS))
        for done in mapped(self._text, parts, os.cpu_count() or 1):
            for out, step in done.out:
                self.ledger.note(out, step)
            self.ledger.changed += done.changed
            yield done.frame

    def _table(self, frame: pl.DataFrame, profiles: Profiles, numeric: frozenset[str]) -> pl.DataFrame:
        features = profiles.add(self._features(frame), len(frame))
        frame = frame.with_columns(features)
        unfit = [_unfit(name, self.rules) for name in features.columns if name in numeric]
        if unfit:
            frame = self.ledger.screen(frame, ROW, frame.select(pl.coalesce(unfit).alias("reason")).to_series())
        absent = [_absent(name) for name in frame.columns if _is_dropped(name, self.rules) and name in features]
        if absent:
            reasons = frame.select(pl.coalesce(absent).alias("reason")).to_series()
            frame = self.ledger.screen(frame, ROW, reasons, "missing")
        outside = [_outside(bound.column, bound.min, bound.max) for bound in self.rules.bounds]
        if outside and all(bound.column in numeric for bound in self.rules.bounds):
            reasons = frame.select(pl.coalesce(outside).alias("reason")).to_series()
            frame = self.ledger.screen(frame, ROW, reasons, "bounds")
        return frame

    def _kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        names = self._features(frame).columns if self.table else [self.roles.text or ""]
        kept = frame.select(*names, *([TIME] if self.roles.time else []), ROW)
        if self.roles.split is None:
            return kept
        split = frame[self.roles.split].str.to_lowercase().replace_strict(NAMES, return_dtype=pl.UInt8)
        return kept.with_columns(split.alias(SPLIT))

    def _keys(self, frame: pl.DataFrame, kept: pl.DataFrame, profiles: Profiles) -> list[pl.Series]:
        content = self._features(frame).columns if self.table else [self.roles.text or ""]
        keys = [pl.Series(KEY, row_keys(kept, content, self.spec.seed, profiles.dictionaries()))]
        if self.roles.group:
            keys.append(pl.Series(GROUP, row_keys(frame, [self.roles.group], self.spec.seed)))
        return keys


def near_of(spec: PrepareSpec) -> float | None:
    """From which similarity on texts are taken for doubles, where a step asks for that; the last one counts."""
    near = [step.near for step in spec.clean if isinstance(step, Deduplicate) and step.near is not None]
    return near[-1] if near else None


def _found(profile: Profile) -> Found:
    words = profile.dictionary
    plain = Words(values=words.values(), counts=words.counts.tolist(), more=words.more) if words else None
    return Found(present=profile.present, numbers=profile.numbers, words=plain)


def _where(mask: pl.Series, why: str) -> pl.Series:
    return mask.to_frame("mask").select(pl.when(pl.col("mask")).then(pl.lit(why)).alias("reason")).to_series()


def _is_dropped(name: str, rules: Rules) -> bool:
    step = rules.missing(name)
    return step is not None and step.policy == "drop"


def _unfit(name: str, rules: Rules) -> pl.Expr:
    column = pl.col(name)
    bad = ~column.is_finite() if rules.missing(name) else ~column.is_finite().fill_null(value=False)
    return pl.when(bad).then(pl.lit(f"{name[:80]} is no finite number"))


def _absent(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_null()).then(pl.lit(f"{name[:80]} is missing"))


def _outside(name: str, low: float | None, high: float | None) -> pl.Expr:
    under = pl.col(name) < low if low is not None else pl.lit(value=False)
    over = pl.col(name) > high if high is not None else pl.lit(value=False)
    return pl.when(under | over).then(pl.lit(f"{name[:80]} is out of bounds"))
