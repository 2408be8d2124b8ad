"""A checkpoint's way from the work's directory into the store: this node's part of it."""

from __future__ import annotations

from pathlib import Path

from sextant_shared.execution.workbench import Checkpoint
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import gangs
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.place import Place
from sextant_shared.store import versions


def hand_in(shop: Workshop, job: Job, place: Place, node: str, directory: Path, event: Checkpoint) -> None:
    """Store what lies under `directory`, and commit it. Raises StaleFence where another attempt owns the job."""
    prefix = f"{versions.prefix_of(job.id, job.fence)}/{event.path}"
    files = [file.plain() for file in shop.artefacts.publish(directory / "out" / event.path, prefix)]
    shop.faults.reach(Point.CHECKPOINT_STORED)
    at = {"step": event.step, "samples": event.samples}
    with shop.engine.begin() as conn:
        gangs.commit_part(conn, job.id, job.fence, place, node, path=f"{job.fence}/{event.path}", files=files, **at)
        shop.faults.reach(Point.CHECKPOINT_WRITTEN)
    shop.faults.reach(Point.CHECKPOINT_COMMITTED)
