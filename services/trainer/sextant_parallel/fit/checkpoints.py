"""The checkpoints of a run: when one is written, when it is whole, and what becomes of it then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sextant_parallel.checkpoint import Saver
from sextant_parallel.runtime.apply import Runtime
from sextant_parallel.world import agree, barrier, leads
from sextant_planner.rebalancing import checkpoint_every

Announce = Callable[[Path, int], None]
"""(checkpoint, step): called when all ranks have written their parts. It may move the host's files away."""

FIRST_INTERVAL = 10
FIRST_GUESS_S = 0.25
"""What a checkpoint is taken to cost before one was made."""


class Checkpoints:
    """Writes in the background, and tells of what is whole. Every rank makes it and calls its methods alike."""

    def __init__(
        self, directory: Path, announce: Announce | None, *, start: Path | None = None, every: int | None = None
    ) -> None:
        """`directory` is shared by the ranks of a host, and `announce` for one of them. `start` is what to go on from,
        if rank 0 has it. `every`: steps between two; without it as many as keep saving under 5 % of the time.
        """
        self._directory, self._announce = directory, announce
        self._start = start if agree(start is not None) else None
        self._fixed, self._interval = every is not None, every or FIRST_INTERVAL
        self._saver = Saver()
        self._unnamed: tuple[Path, int] | None = None
        self._saved = -1
        self.cost_s = FIRST_GUESS_S
        """Seconds for which a checkpoint keeps the steps waiting, as it was measured last."""

    def due(self, step: int) -> bool:
        """Whether it is time."""
        return step % self._interval == 0

    def load(self, runtime: Runtime, extra: dict[str, Any]) -> dict[str, Any] | None:
        """Load what there is to go on from; the stored `extra`, or None where a run begins."""
        if self._start is None:
            return None
        stored = runtime.load(self._start, {**extra, "step": 0})
        self._saved = int(stored["step"])
        return stored

    def save(self, runtime: Runtime, step: int, extra: dict[str, Any], steps_s: Sequence[float]) -> float | None:
        """Begin to write; seconds that it took. `steps_s`: what the last steps took, to choose the interval by."""
        if self._saved == step:
            return None
        self._saved = step
        began = time.perf_counter()
        self.finish()
        path = self._directory / f"step-{step:09d}"
        runtime.save(path, {**extra, "step": step}, self._saver)
        self._unnamed = path, step
        taken = time.perf_counter() - began
        self._learn(taken, steps_s)
        return taken

    def tell(self) -> None:
        """Announce what has become whole since; waits for nothing."""
        # One rank's part is done when every rank's is.
        if self._unnamed and self._saver.finished:
            self._name()

    def finish(self) -> None:
        """Wait until nothing is being written, and announce it."""
        self._saver.wait()
        if self._unnamed:
            self._name()
        barrier()

    def carry(self, old: Runtime, start_new: Callable[[], Runtime], extra: Callable[[], dict[str, Any]]) -> Any:
        """From one layout to another by way of a checkpoint that nobody else sees: the new runtime and `extra`."""
        self.finish()
        path = self._directory / "carried"
        old.save(path, extra())
        barrier()
        new = start_new()
        stored = new.load(path, extra())
        barrier()
        if leads():
            shutil.rmtree(path)
        return new, stored

    def _name(self) -> None:
        unnamed, self._unnamed = self._unnamed, None
        if unnamed is not None and self._announce is not None:
            self._announce(*unnamed)

    def _learn(self, taken: float, steps_s: Sequence[float]) -> None:
        """Take rank 0's figures for what saving costs, and for how often that allows it."""
        recent = sorted(steps_s[-20:])
        self.cost_s, step_s = agree((taken, recent[len(recent) // 2] if recent else taken))
        if not self._fixed:
            self._interval = checkpoint_every(step_s, self.cost_s)


class Latest:
    """A directory of checkpoints in which a file names the newest whole one; older ones go, but for some."""

    FILE = "latest"

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self._directory, self._keep = directory, keep

    @property
    def path(self) -> Path | None:
        """The newest whole checkpoint."""
        file = self._directory / self.FILE
        return self._directory / file.read_text() if file.is_file() else None

    def announce(self, checkpoint: Path, _step: int) -> None:
        """This one is whole."""
        partial = self._directory / f"{self.FILE}.new"
        partial.write_text(checkpoint.name)
        partial.replace(self._directory / self.FILE)
        for old in sorted(self._directory.glob("step-*"))[: -self._keep]:
            if old != checkpoint:
                shutil.rmtree(old, ignore_errors=True)
