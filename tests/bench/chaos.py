"""The platform under kills, pauses, lost data, cut links and full disks: jobs lost or doubled, and time to recover."""

from __future__ import annotations

from collections import Counter

from tests.bench import chaos_baselines
from tests.bench.report import Report, percentile
from tests.chaos.run import FAULTS, JOBS, Outcome, run_seeds
from tests.chaos.schedule import LEASE_S

OPTIONS = {"baseline": "the same workload on Celery, as it comes and tuned, and on Ray Jobs"}
SEEDS = 27
QUICK = (3, 150, 16)


def run(report: Report) -> None:
    """Each seed on a platform of its own."""
    if "baseline" in report.options:
        chaos_baselines.measure(report)
        return
    seeds, jobs, faults = QUICK if report.quick else (SEEDS, JOBS, FAULTS)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_seeds(range(seeds), jobs, faults, report.say):
            outcomes.append(outcome)  # noqa: PERF402 - what is there counts where the rest is cut short
    except KeyboardInterrupt:
        report.note(f"stopped by hand before its {seeds} seeds were done")
    _tell(report, outcomes)


def _tell(report: Report, outcomes: list[Outcome]) -> None:
    seconds = [recovery.seconds for outcome in outcomes for recovery in outcome.recoveries]
    jobs = sum(outcome.jobs for outcome in outcomes)
    report.figure("jobs", jobs)
    report.figure("seeds", len(outcomes))
    report.figure("faults", sum(outcome.faults for outcome in outcomes))
    report.figure("lost", sum(len(outcome.lost) for outcome in outcomes))
    report.figure("completed_twice", sum(outcome.completed_twice for outcome in outcomes))
    report.figure("invariant_violations", sum(len(outcome.violations) for outcome in outcomes))
    report.figure("recovery_p99_s", percentile(seconds, 0.99) if seconds else float("nan"))
    queued = [each.queued_s for outcome in outcomes for each in outcome.recoveries if each.queued_s is not None]
    report.figure("requeued_p99_s", percentile(queued, 0.99) if queued else float("nan"))
    report.figure("recovery_p50_s", percentile(seconds, 0.5) if seconds else float("nan"))
    report.figure("hit", len(seconds))
    report.figure("executed_again", sum(outcome.executed_twice for outcome in outcomes))
    report.figure("without_effect", sum(len(outcome.without_effect) for outcome in outcomes))
    report.sample("recovery_s", seconds)
    report.sample("requeued_s", queued)
    report.sample("calm_after_s", [outcome.calm_after_s for outcome in outcomes])
    states = sum((outcome.states for outcome in outcomes), Counter[str]())
    effects = sum((outcome.effects for outcome in outcomes), Counter[str]())
    report.note(f"leases of {LEASE_S:.0f} s; jobs of 50 to 800 ms on three workers, and some on the trainer")
    report.note("ended as " + ", ".join(f"{state} {number}" for state, number in sorted(states.items())))
    report.note("seen to happen: " + ", ".join(f"{kind} {number}" for kind, number in sorted(effects.items())))
    report.note("recovery: from the fault until somebody works again on a job that lost its attempt or its message")
    report.note("requeued: until it could be claimed, after a lost attempt; the rest is the wait behind other jobs")
    for reason in sorted({f"{kind}: {why}" for outcome in outcomes for kind, why in outcome.skipped.items()}):
        report.note(f"not tried: {reason}")
    if jobs:
        report.note(f"0 of {jobs} jobs bounds the share at {300 / jobs:.3g} %, 0 of {len(outcomes)} schedules at"
                    f" {min(100.0, 300 / len(outcomes)):.3g} %, with 95 % confidence")  # fmt: skip
    for outcome in outcomes:
        if outcome.failed:
            report.note(f"seed {outcome.seed} failed: {(outcome.violations or outcome.without_effect or ['lost'])[0]}")
