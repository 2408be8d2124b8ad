"""What the scheduler's processes measure."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ControlMetrics:
    """Gauges of the control process, refreshed at each sweep."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("sextant_jobs", "Jobs by kind and state", ["kind", "state"], registry=registry)
        self._lag = Gauge("sextant_outbox_lag_seconds", "Age of the oldest unpublished event", registry=registry)
        self._waiting = Gauge("sextant_outbox_rows", "Unpublished events", registry=registry)
        self._repairs = Counter(
            "sextant_repairs_total",
            "Leases and reservations that ran out (worker-lost, cancelled, paused, quarantined, reservation-expired), "
            "and retries that came due (retried)",
            ["event"],
            registry=registry,
        )

    def repaired(self, events: list[str]) -> None:
        """Count what a repair did."""
        for event in events:
            self._repairs.labels(event).inc()

    def update(self, lag: tuple[int, float], counts: list[tuple[str, str, int]]) -> None:
        """Take over what the store says."""
        self._waiting.set(lag[0])
        self._lag.set(lag[1])
        self._jobs.clear()
        for kind, state, count in counts:
            self._jobs.labels(kind, state).set(count)


class NotaryMetrics:
    """Of the notary."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sealed = Gauge("sextant_audit_sealed_rows", "Rows of the audit log that are sealed", registry=registry)


class ApiMetrics:
    """Counters of the API."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "sextant_api_requests_total", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "sextant_api_request_seconds",
            "Time to answer, by route",
            ["route"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )
