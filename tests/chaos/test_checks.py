"""The chaos runner follows from its seed, and its checks see what they are there for."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from tests.chaos import invariants, schedule, workload
from tests.chaos.evidence import Files
from tests.chaos.ledger import Entry, Ledger, overlaps, read
from tests.simulation.model import Store

JOB = UUID(int=1)


def entry(fence: int, at: float) -> Entry:
    return Entry(JOB, fence, pid=fence, at=at, wall=at)


def test_a_schedule_follows_from_its_seed_and_has_every_kind() -> None:
    for seed in range(20):
        planned = schedule.plan(seed, 30)
        assert planned == schedule.plan(seed, 30)
        assert planned != schedule.plan(seed + 1, 30)
        assert len(planned) == 30
        assert {fault.kind for fault in planned} == set(schedule.WEIGHTS)
        assert [fault.at_s for fault in planned] == sorted(fault.at_s for fault in planned)


def test_every_process_is_killed_in_some_seed_of_a_full_run() -> None:
    killed = {fault.target for seed in range(20) for fault in schedule.plan(seed, 30) if fault.kind == "kill"}
    assert killed == {*schedule.SERVICES, *schedule.SERVERS}


def test_jobs_follow_from_their_seed_and_have_keys_of_their_own() -> None:
    wanted = workload.plan(3, 400, 10.0)
    assert wanted == workload.plan(3, 400, 10.0)
    assert len({each.key for each in wanted}) == 400
    assert {each.spec["kind"] for each in wanted} == {"probe", "pipeline", "train", "prepare"}


@pytest.mark.parametrize(
    ("noted", "seen"),
    [
        ([entry(1, 0.0), entry(1, 1.0), entry(2, 2.0), entry(2, 3.0)], 0),
        # A frozen worker wakes long after, and stops soon.
        ([entry(1, 0.0), entry(2, 2.0), entry(1, 9.0), entry(1, 9.2), entry(2, 9.5)], 0),
        ([entry(1, 0.0), entry(2, 2.0), entry(1, 2.1), entry(1, 3.5)], 1),
    ],
)
def test_work_beside_that_of_the_next_fence_is_seen(noted: list[Entry], seen: int) -> None:
    assert len(list(overlaps(noted))) == seen


def test_a_ledger_gives_back_what_was_noted(tmp_path: Path) -> None:
    Ledger(tmp_path / "work").note(str(JOB), 3)
    (found,) = read(tmp_path / "work")
    assert (found.job_id, found.fence) == (JOB, 3)


def test_an_answer_without_a_job_is_seen() -> None:
    answers = [workload.Answer("k", JOB, 0.0, None)]
    assert [found[:3] for found in invariants.of_rows(Store(), answers)] == ["I1:"]
    assert invariants.lost(Store(), answers) == {"k"}


@pytest.mark.parametrize(("content", "seen"), [(b"x", 0), (b"y", 1), (None, 1)])
def test_files_that_are_missing_or_changed_are_seen(tmp_path: Path, content: bytes | None, seen: int) -> None:
    directory = tmp_path / str(JOB) / "1"
    directory.mkdir(parents=True)
    if content is not None:
        (directory / "a").write_bytes(content)
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"
    files = Files(tmp_path, {JOB: (1, [{"path": "a", "size": 1, "sha256": sha256}])})
    assert len(list(invariants.of_files(files))) == seen
