"""What a pipeline does next: a pure function of its spec and of what became of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sextant_scheduler.domain.resolution import inputs_from_steps
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.errors import InvalidInput
from sextant_shared.lifecycle.machine import Cancel, Event, GiveUp, Pause, Resume, Settle, Start, Unblock
from sextant_shared.lifecycle.states import State


@dataclass(frozen=True, slots=True)
class Child:
    """A step's job as it is now."""

    id: UUID
    step: str
    state: State
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreateStep:
    """Insert the job of a step; `inputs` is None where it has to wait for other steps."""

    step: str
    inputs: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Tell:
    """Apply an event to the step's job."""

    job_id: UUID
    event: Event


@dataclass(frozen=True, slots=True)
class Begin:
    """Move the pipeline itself to RUNNING."""

    event: Start


@dataclass(frozen=True, slots=True)
class Finish:
    """End the pipeline; `outputs` are those of its steps, by step."""

    event: Settle
    outputs: dict[str, Any]


Action = CreateStep | Tell | Begin | Finish
GIVEN_UP = {"fail": State.FAILED, "skip": State.SKIPPED}


def decide(
    spec: PipelineSpec, state: State, children: list[Child], named: Mapping[str, Mapping[str, Any]]
) -> list[Action]:
    """The actions that `state` and `children` call for; none where there is nothing to do but wait.

    `named` holds, by step, the inputs that were looked up when the pipeline was accepted.
    """
    match state:
        case State.QUEUED if any(c.state is State.PAUSING for c in children):
            return []  # resumed before all had stopped: they are resumed together, when they have
        case State.QUEUED:
            created: list[Action] = [] if children else list(_create(spec, named))
            resumed = [Tell(c.id, Resume()) for c in children if c.state is State.PAUSED]
            return [Begin(Start()), *created, *resumed]
        case State.PAUSED:
            return [Tell(c.id, Pause()) for c in children if not c.state.is_terminal and not _stopping(c)]
        case State.CANCELLING:
            stop = [Tell(c.id, Cancel("the pipeline was cancelled")) for c in children if _may_be_cancelled(c)]
            return [*stop] or [*_finish(children)]
        case State.RUNNING:
            return [*_advance(spec, children, named)] or [*_finish(children)]
    return []


def _create(spec: PipelineSpec, named: Mapping[str, Mapping[str, Any]]) -> Iterator[CreateStep]:
    for step, needs in spec.dependencies().items():
        yield CreateStep(step, None if needs else dict(named.get(step, {})))


def _advance(spec: PipelineSpec, children: list[Child], named: Mapping[str, Mapping[str, Any]]) -> Iterator[Tell]:
    by_step = {child.step: child for child in children}
    outputs = {child.step: child.outputs for child in children}
    for step, needs in spec.dependencies().items():
        child = by_step[step]
        if child.state is not State.BLOCKED:
            continue
        ended = sorted(n for n in needs if by_step[n].state.is_terminal and by_step[n].state is not State.SUCCEEDED)
        if ended:
            reason = f"step {ended[0]!r}, which this one needs, ended as {by_step[ended[0]].state}"
            yield Tell(child.id, GiveUp(GIVEN_UP[spec.on_failure], reason))
        elif all(by_step[need].state is State.SUCCEEDED for need in needs):
            try:
                inputs = {**named.get(step, {}), **inputs_from_steps(spec.steps[step], outputs)}
                yield Tell(child.id, Unblock(inputs))
            except InvalidInput as error:
                yield Tell(child.id, GiveUp(State.FAILED, error.message))


def _finish(children: list[Child]) -> Iterator[Finish]:
    if any(not child.state.is_terminal for child in children):
        return
    bad = sorted(c.step for c in children if c.state not in (State.SUCCEEDED, State.SKIPPED))
    state = State.FAILED if bad else State.SUCCEEDED
    detail = {"message": f"steps that did not succeed: {', '.join(bad)}", "steps": bad} if bad else {}
    yield Finish(Settle(state, detail), {child.step: dict(child.outputs) for child in children})


def _stopping(child: Child) -> bool:
    return child.state in (State.PAUSED, State.PAUSING, State.CANCELLING)


def _may_be_cancelled(child: Child) -> bool:
    return not child.state.is_terminal and child.state is not State.CANCELLING
