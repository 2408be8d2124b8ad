"""The API does what its description says, under requests that schemathesis makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench import platforms
from tests.bench.fuzz import OWN_KEY, fuzz

EXAMPLES, LEAST = 8, 5_000
"""Random requests for each operation and way to make them at the most, and requests of all kinds at the least."""
STREAM = "GET /v1/jobs/{job_id}/stream"
"""Of a job that nobody takes it has no end, and is read for seconds each time."""


@pytest.mark.timeout(300)
def test_no_request_breaks_what_the_description_says(tmp_path: Path) -> None:
    with platforms.parts("scheduler-api") as platform:
        found = fuzz(platform, tmp_path / "fuzz.json", EXAMPLES, (*OWN_KEY, STREAM))
    assert [(failure["title"], failure["operations"]) for failure in found["failures"]] == []
    assert found["test_cases"]["generated"] > LEAST
    assert found["operations"]["tested"] > 30
