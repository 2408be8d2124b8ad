"""A workbench whose events go to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.sextant_data_prep.pieces import MakeBench, Workers

from sextant_shared.execution.workbench import Parts, Workbench, WorkOrder


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Makes the workbench of a `prepare` job: make_bench(upload=PATH or None, **spec)."""
    opened: list[int] = []

    def make(
        upload: Path | None = None,
        inputs: dict[str, Any] | None = None,
        service: dict[str, str] | None = None,
        parts: Parts | None = None,
        **spec: Any,
    ) -> Workbench:
        directory = tmp_path / f"work-{len(opened)}"
        (directory / "out").mkdir(parents=True)
        inputs = dict(inputs or {})
        if upload:
            inputs["source"] = {"id": "u", "name": upload.name, "version": 1, "digest": "", "path": str(upload.parent)}
            spec.setdefault("source", "upload://u")
        about: dict[str, Any] = {"job_id": "j", "kind": "prepare", "name": "job", "fence": 1, "attempt": 1}
        order = WorkOrder(**about, spec=spec, inputs=inputs, service=service or {}, parts=parts)
        opened.append(os.open(directory / "events", os.O_WRONLY | os.O_CREAT))
        return Workbench(directory, order, opened[-1])

    yield make
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def workers(make_bench: MakeBench) -> Workers:
    """Without any piece done."""
    return Workers(make_bench)
