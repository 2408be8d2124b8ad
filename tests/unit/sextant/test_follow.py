"""What a follower knows of a job from its events."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from sextant._exchange import Policy
from sextant._following import Following
from sextant.answers import ProgressEvent, StateEvent
from sextant.command.follow import Board, _render, _tell_errors
from sextant.command.jobs import _print_log
from sextant.command.session import Options, Session
from sextant_shared.contracts.views import JobView

NOW = datetime.now(UTC)


def _job(kind: str, name: str, state: str, parent: JobView | None = None) -> JobView:
    one = uuid4()
    root = parent.root_id if parent else one
    above = parent.id if parent else None
    return JobView(id=one, kind=kind, name=name, state=state, root_id=root, parent_id=above, created_at=NOW)


def _state(which: UUID, state: str, at: datetime = NOW, parent: UUID | None = None, name: str = "trial") -> StateEvent:
    return StateEvent(id=which, kind="train", name=name, state=state, at=at, parent_id=parent)


def _board() -> tuple[Board, JobView, JobView]:
    root = _job("pipeline", "digits", "RUNNING")
    step = _job("tune", "search", "RUNNING", root)
    return Board(root.model_copy(update={"steps": [step]})), root, step


def test_a_repeated_snapshot_changes_nothing() -> None:
    board, root, _ = _board()
    assert board.take(_state(root.id, "RUNNING")) is None
    assert board.take(_state(root.id, "SUCCEEDED")) is not None
    assert board.take(_state(root.id, "SUCCEEDED")) is None


def test_elapsed_is_from_the_start_to_the_end_of_the_work() -> None:
    board, _, step = _board()
    board.take(_state(step.id, "RUNNING", NOW))
    board.take(_state(step.id, "SUCCEEDED", NOW + timedelta(seconds=12)))
    row = board.rows[step.id]
    assert row.started == NOW
    assert row.ended == NOW + timedelta(seconds=12)


def test_trials_that_are_done_well_make_room() -> None:
    board, root, step = _board()
    trials = [uuid4() for _ in range(4)]
    for trial, state in zip(trials, ("SUCCEEDED", "FAILED", "RUNNING", "QUEUED"), strict=True):
        board.take(_state(trial, state, parent=step.id))
    shown = [(depth, row.id) for depth, row in board.visible()]
    assert shown == [(0, root.id), (1, step.id), (2, trials[1]), (2, trials[2])]


def test_a_pipelines_bar_is_its_share_of_ended_steps() -> None:
    board, root, step = _board()
    other = uuid4()
    board.take(_state(other, "SUCCEEDED", parent=root.id))
    assert board.done(board.rows[root.id]) == 0.5
    board.take(ProgressEvent(job_id=step.id, fraction=7.0))
    assert board.done(board.rows[step.id]) == 1.0


def test_progress_of_an_unknown_job_is_ignored() -> None:
    board, _, _ = _board()
    assert board.take(ProgressEvent(job_id=uuid4(), fraction=0.5)) is None


def test_the_table_shows_metrics_and_steers_no_terminal() -> None:
    board, _, step = _board()
    board.take(ProgressEvent(job_id=step.id, fraction=0.5, metrics={"val_accuracy": 0.971234}))
    board.take(_state(uuid4(), "RUNNING", parent=step.id, name="a\x1b[2Jb [red]c"))
    console = Console(width=120, record=True, markup=False, force_terminal=False, file=io.StringIO())
    console.print(_render(board))
    text = console.export_text()
    assert "val_accuracy 0.9712" in text
    assert "a[2Jb [red]c" in text
    assert "\x1b" not in text


def test_half_an_event_of_a_cut_connection_is_dropped() -> None:
    following = Following(Policy("http://x"))
    following.connected()
    assert following.feed("event: log") is None
    following.feed('data: {"job_id": "')
    following.connected()
    assert following.feed("") is None
    for line in ("event: end", 'data: {"id":', f'data: "{uuid4()}", "state": "FAILED"}}'):
        assert following.feed(line) is None
    event = following.feed("")
    assert event is not None
    assert following.ended


def test_an_event_that_is_not_understood_does_no_harm() -> None:
    following = Following(Policy("http://x"))
    for line in ("event: state", "data: {}", "", "event: state", "data: nonsense", "", ": comment", "retry: 5", ""):
        assert following.feed(line) is None
    assert not following.ended


HOSTILE = "bad\r\ndigits (pipeline) SUCCEEDED\x1b[1A\x1b[2K\x1b]0;owned\x07\x9b31m\u202e[bold]\nerror: none"


def test_what_a_job_says_neither_steers_the_terminal_nor_looks_like_our_own_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board, root, step = _board()
    board.take(ProgressEvent(job_id=step.id, fraction=0.5, message=HOSTILE, metrics={HOSTILE: 1.0}))
    failed = step.model_copy(update={"state": "FAILED", "error": {"message": HOSTILE}, "name": "search"})
    board.take(_state(step.id, "FAILED"))
    this = Session(Options(), as_json=False)
    _tell_errors(this, root.model_copy(update={"state": "FAILED", "steps": [failed]}), board)
    _print_log(this, "search", HOSTILE)
    this.console.print(_render(board))
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "[bold]" in text
    forged = ("digits (pipeline) SUCCEEDED", "error: none")
    assert not [line for line in text.splitlines() if line.startswith(forged)]
