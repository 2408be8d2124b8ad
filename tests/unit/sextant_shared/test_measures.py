"""What a worker tells Prometheus of its attempts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from sextant_shared.execution.measures import Measures


def test_the_rate_is_that_of_all_jobs_that_run_now_and_names_none() -> None:
    registry = CollectorRegistry()
    measures = Measures(registry)
    measures.progressed("a", {"step_ms": 20.0, "samples_per_s": 100.0})
    measures.progressed("b", {"step_ms": 40.0, "samples_per_s": 30.0})
    measures.progressed("a", {"samples_per_s": 90.0})
    assert registry.get_sample_value("sextant_train_samples_per_second") == 120.0
    assert registry.get_sample_value("sextant_train_step_seconds_count") == 2.0
    measures.ended("train", "a", "succeeded", 1.0)
    assert registry.get_sample_value("sextant_train_samples_per_second") == 30.0
    labels = {name for metric in registry.collect() for sample in metric.samples for name in sample.labels}
    assert labels == {"le", "kind", "outcome"}
