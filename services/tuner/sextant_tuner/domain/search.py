"""The search: TPE through Optuna's ask and tell, replayed from the history at each decision.

The sampler is seeded by the search's seed and the number of the trial, and told what is known in the order of the
trials, so that the same history gives the same next trial, whoever asks and however often, in this job as in another.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import optuna
from optuna.trial import TrialState, create_trial

from sextant_shared.contracts.specs import TuneSpec
from sextant_shared.lifecycle.machine import Cancel, Event, Pause, Resume, Settle, Start
from sextant_shared.lifecycle.states import State
from sextant_tuner.domain.space import Space, config_of, space_of
from sextant_tuner.domain.trials import Trial

STARTUP_TRIALS = 5


@dataclass(frozen=True, slots=True)
class StartTrial:
    """Insert the train job of a trial."""

    number: int
    point: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tell:
    """Apply an event to a trial's job, or, without one, to the search itself."""

    event: Event
    job_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """End the search."""

    event: Settle
    outputs: dict[str, Any] = field(default_factory=dict)


Action = StartTrial | Tell | Finish


def decide(spec: TuneSpec, state: State, trials: Sequence[Trial]) -> list[Action]:
    """The actions that `state` and `trials` call for; none where there is nothing to do but wait."""
    match state:
        case State.QUEUED if any(trial.state is State.PAUSING for trial in trials):
            return []  # resumed before all had stopped: they are resumed together, when they have
        case State.QUEUED:
            resumed: list[Action] = [Tell(Resume(), t.job_id) for t in trials if t.state is State.PAUSED]
            return [Tell(Start()), *resumed]
        case State.PAUSED:
            stopping = (State.PAUSED, State.PAUSING, State.CANCELLING)
            return [Tell(Pause(), t.job_id) for t in trials if not t.state.is_terminal and t.state not in stopping]
        case State.CANCELLING:
            open_ = [t for t in trials if not t.state.is_terminal]
            stop: list[Action] = [
                Tell(Cancel("the search was cancelled"), t.job_id) for t in open_ if t.state is not State.CANCELLING
            ]
            return stop or ([] if open_ else [Finish(Settle(State.CANCELLED))])
        case State.RUNNING:
            return _advance(spec, trials)
    return []


def _advance(spec: TuneSpec, trials: Sequence[Trial]) -> list[Action]:
    running = sum(not trial.state.is_terminal for trial in trials)
    started = len(trials)
    room = min(spec.parallel - running, spec.trials - started)
    if room > 0:
        # One at a time: the next suggestion should know of the one before it.
        return [_next_trial(spec, trials)]
    return [_finish(spec, trials)] if running == 0 and started >= spec.trials else []


def _next_trial(spec: TuneSpec, trials: Sequence[Trial]) -> StartTrial:
    space = space_of(spec)
    number = len(trials)
    point = suggest(spec, space, trials)
    return StartTrial(number, point, config_of(spec, point).model_dump(mode="json"))


def suggest(spec: TuneSpec, space: Space, trials: Sequence[Trial]) -> dict[str, Any]:
    """The next point, given all trials so far.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), in Optuna's TPESampler; running
    trials count as bad ones (constant liar), so that parallel trials spread.
    """
    seed = zlib.crc32(f"{spec.seed}/{len(trials)}".encode())
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True, seed=seed
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if spec.maximize else "minimize", sampler=sampler)
    for trial in sorted(trials, key=lambda trial: trial.number):
        study.add_trial(_as_optuna(trial, space))
    return dict(study.ask(space).params)


def _as_optuna(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    params = {name: trial.point[name] for name in space if name in trial.point}
    distributions = {name: space[name] for name in params}
    if trial.value is not None:
        return create_trial(params=params, distributions=distributions, value=trial.value)
    state = TrialState.FAIL if trial.state.is_terminal else TrialState.RUNNING
    return create_trial(state=state, params=params, distributions=distributions)


def _finish(spec: TuneSpec, trials: Sequence[Trial]) -> Finish:
    scored = [trial for trial in trials if trial.value is not None]
    if not scored:
        message = f"none of {len(trials)} trials reported {spec.metric!r}"
        return Finish(Settle(State.FAILED, {"message": message}))
    sign = 1.0 if spec.maximize else -1.0
    best = max(scored, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))
    config = config_of(spec, best.point).model_dump(mode="json")
    chosen = {"type": "config", "job_id": str(best.job_id), "zoo": spec.model.zoo, "config": config}
    if spec.model.weights is not None:
        chosen["pretrained"] = spec.model.model_dump(include={"weights", "adapt", "rank"})
    outputs = {
        "best": chosen,
        "best_value": best.value,
        "best_trial": best.number,
        "trials": len(trials),
        "failed": len(trials) - len(scored),
    }
    return Finish(Settle(State.SUCCEEDED), outputs)
