"""What an administrator lets each job of a node use holds for every kind of work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.integration.sextant_shared.test_supervisor import Shop, shop

from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.limits import Limits
from sextant_shared.contracts.specs import SPEC
from sextant_shared.execution.launching import ProcessLauncher
from sextant_shared.execution.supervisor import Supervisor
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs

__all__ = ["shop"]
LIMITS = Limits(memory_mb=192, cpu_s=1, disk_mb=64, processes=6)


def run(shop: Shop, name: str) -> Any:
    """An export job of this name, whose work is `hungry`; its row at the end."""
    launcher = ProcessLauncher("tests.integration.sextant_shared.hungry")
    made = replace(shop.made, launchers={"export": launcher}, limits=LIMITS, lease_s=10.0)
    spec = SPEC.validate_python({"kind": "export", "name": name, "model": {"model": "m"}})
    with shop.engine.begin() as conn:
        new = new_job(spec, tenant="default", actor="t", key=str(new_id()), inputs={})
        job_id: UUID = jobs.submit(conn, [new])[0].id
    Supervisor(made).run(job_id)
    return shop.row(job_id)


@pytest.mark.parametrize(
    ("name", "field", "says"),
    [
        ("memory", "memory_mb", "MiB of memory; its limit is 192 MiB"),
        ("cpu", "cpu_s", "of processor time; its limit is 1 s"),
        ("disk", "disk_mb", "MiB; its limit is 64 MiB"),
        ("processes", "processes", "processes; its limit is 6"),
    ],
)
def test_work_that_takes_too_much_is_ended_and_says_of_what(shop: Shop, name: str, field: str, says: str) -> None:
    row = run(shop, name)
    assert (row.state, row.errors) == ("FAILED", 1)
    assert says in row.error["message"]
    assert row.error["field"] == f"limits.{field}"


def test_work_within_its_limits_is_left_alone(shop: Shop) -> None:
    row = run(shop, "frugal")
    assert (row.state, row.outputs["done"]) == ("SUCCEEDED", True)
