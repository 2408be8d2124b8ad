"""What the inference service measures."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)


class InferenceMetrics:
    """Histograms by endpoint."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256)
        self._rows = Histogram("sextant_batch_rows", "Rows a batch", ["endpoint"], buckets=sizes, registry=registry)
        self._wait = Histogram(
            "sextant_batch_wait_seconds", "Wait of the oldest request", ["endpoint"], buckets=SECONDS, registry=registry
        )
        self._run = Histogram(
            "sextant_batch_run_seconds", "Time of a run", ["endpoint"], buckets=SECONDS, registry=registry
        )
        self.requests = Counter(
            "sextant_inference_requests_total", "Requests", ["endpoint", "status"], registry=registry
        )

    def observer(self, endpoint: str) -> Callable[[int, float, float], None]:
        """What a batcher of this endpoint reports to."""
        rows, wait, run = (metric.labels(endpoint) for metric in (self._rows, self._wait, self._run))

        def observe(batch_rows: int, waited_s: float, run_s: float) -> None:
            rows.observe(batch_rows)
            wait.observe(waited_s)
            run.observe(run_s)

        return observe
