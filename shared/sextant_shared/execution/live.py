"""What people watch of a running attempt: its progress and its log, published as they come. Nothing depends on it."""

from __future__ import annotations

import json
from pathlib import Path

from sextant_shared.contracts.messages import live_subject
from sextant_shared.execution.workbench import Progress
from sextant_shared.execution.workshop import Workshop
from sextant_shared.lifecycle.machine import Job

MOST_AT_ONCE = 64 << 10


class Live:
    """The progress and the log of one node's part of an attempt."""

    def __init__(self, shop: Workshop, job: Job, directory: Path, origin: str = "") -> None:
        """The log is `log.txt` in `directory`; `origin` goes before each of its lines."""
        self._shop, self._job, self._origin = shop, job, origin
        self._log = directory / "log.txt"
        self._offset = 0
        self._published: Progress | None = None
        self.progress: Progress | None = None
        """The last one that the work has told."""

    def publish(self) -> None:
        """Publish what is new."""
        if self.progress is not self._published and self.progress is not None:
            self._published = self.progress
            self._shop.measures.progressed(str(self._job.id), self.progress.metrics)
            self._send("progress", self.progress.model_dump(exclude={"type"}))
        if whole := self._new_lines():
            lines = whole.decode(errors="replace").splitlines(keepends=True)
            self._send("log", {"text": "".join(self._origin + line for line in lines)})

    def _new_lines(self) -> bytes:
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._offset)
                new = stream.read(MOST_AT_ONCE)
        except FileNotFoundError:
            return b""
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole

    def _send(self, what: str, body: dict[str, object]) -> None:
        job = self._job
        subject = live_subject(job.root_id, job.id, "log" if what == "log" else "progress")
        payload = {"job_id": str(job.id), "kind": job.kind, "step": job.step, "what": what, **body}
        self._shop.bus.publish(subject, json.dumps(payload).encode())
