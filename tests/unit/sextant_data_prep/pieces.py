"""Pieces of large sources done one after the other, as workers do them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sextant_data_prep.handlers import work
from sextant_shared.execution.workbench import Divided, Parts, Result, Workbench

MakeBench = Callable[..., Workbench]


@dataclass
class Workers:
    """Does pieces as workers do, and keeps what came of each by its digest."""

    make_bench: MakeBench
    done: dict[str, str] = field(default_factory=dict)

    def run(self, upload: Path, piece_bytes: int, **spec: Any) -> tuple[Workbench, Result, int]:
        """The version of an upload: where it is, and how many pieces were done for it."""
        told, before = {"piece_bytes": str(piece_bytes)}, len(self.done)
        bench = self.make_bench(upload, service=told, **spec)
        made = work(bench)
        while isinstance(made, Divided):
            for piece in made.pieces:
                if piece.digest not in self.done:
                    worker = self.make_bench(upload, inputs={"piece": piece.model_dump()}, service=told, **spec)
                    assert isinstance(work(worker), Result)
                    self.done[piece.digest] = str(worker.out)
            parts = Parts(note=made.note, directories=[self.done[piece.digest] for piece in made.pieces], reused=0)
            bench = self.make_bench(upload, parts=parts, service=told, **spec)
            made = work(bench)
        return bench, made, len(self.done) - before


def prepare(bench: Workbench) -> Result:
    """The version of a source that is too small to be divided."""
    made = work(bench)
    assert isinstance(made, Result)
    return made


def hashes(bench: Workbench) -> dict[str, str]:
    """Of every file that was made."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bench.out.iterdir()}
