"""What a worker measures of the attempts that it runs."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram

SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Measures:
    """Histograms over attempts, and a gauge over those that run now. No label names a job: there is no end of jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waited = Histogram(
            "sextant_queue_wait_seconds", "Time from ready to claimed", ["kind"], buckets=SECONDS, registry=registry
        )
        self._took = Histogram(
            "sextant_attempt_seconds",
            "Time from claimed to ended",
            ["kind", "outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self._step = Histogram(
            "sextant_train_step_seconds",
            "Mean time of a step so far, as reports tell it",
            buckets=SECONDS,
            registry=registry,
        )
        rate = Gauge("sextant_train_samples_per_second", "Samples trained on by all jobs here", registry=registry)
        self._rates: dict[str, float] = {}
        # A copy, made at once: jobs come and go on other threads.
        rate.set_function(lambda: sum(list(self._rates.values())))

    def claimed(self, kind: str, waited_s: float) -> None:
        """A job of this kind began after so long a wait."""
        self._waited.labels(kind).observe(max(0.0, waited_s))

    def progressed(self, job: str, metrics: Mapping[str, float]) -> None:
        """A running job told its figures."""
        if "step_ms" in metrics:
            self._step.observe(metrics["step_ms"] / 1000.0)
        if "samples_per_s" in metrics:
            self._rates[job] = metrics["samples_per_s"]

    def ended(self, kind: str, job: str, outcome: str, took_s: float) -> None:
        """An attempt is over, and so is its rate."""
        self._took.labels(kind, outcome).observe(took_s)
        self._rates.pop(job, None)
