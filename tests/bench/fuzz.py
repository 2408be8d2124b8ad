"""The API under requests that its own description leads to, right and wrong ones: schemathesis, set up by fuzz.toml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import platforms
from tests.bench.report import Report

EXAMPLES = {True: 10, False: 200}
"""Requests for each operation and way to make them, at the most."""
OWN_KEY = ("DELETE /v1/keys/{key_id}", "POST /v1/keys/{key_id}/rotate")
"""Not tried: they would find the key that all requests carry, and end it. Their tests are in the repository."""
SERVER_ERROR, IGNORED_AUTH = "ServerError", "IgnoredAuth"
TIMEOUT_S = 3600.0
CONFIG = Path(__file__).with_suffix(".toml")


def run(report: Report) -> None:
    """An API process with its servers; nothing takes the jobs that are accepted."""
    with platforms.parts("scheduler-api") as platform:
        found = fuzz(platform, platform.home.path / "fuzz.json", EXAMPLES[report.quick])
    report.figure("requests", found["test_cases"]["generated"])
    report.figure("operations", found["operations"]["tested"])
    report.figure("server_errors", failures(found, SERVER_ERROR))
    report.figure("ignored_auth", failures(found, IGNORED_AUTH))
    others = sum(failure["count"] for failure in found["failures"]) - failures(found, SERVER_ERROR, IGNORED_AUTH)
    report.figure("schema_violations", others)
    report.figure("seconds", found["running_time"])
    for failure in found["failures"]:
        report.note(f"{failure['title']} ({failure['count']}): {', '.join(map(str, failure['operations']))[:300]}")
    report.note(
        f"schemathesis {found['schemathesis_version']}, seed {found['seed']}: examples, coverage, fuzzing, stateful"
    )
    report.note(f"without {' and '.join(OWN_KEY)}, which would end the key that all requests carry")


def fuzz(
    platform: platforms.Platform, answer: Path, examples: int, without: tuple[str, ...] = OWN_KEY
) -> dict[str, Any]:
    """What schemathesis found, as its JSON report tells it; operations `without` are not tried."""
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(CONFIG)),
        *("run", f"{platform.url}/openapi.json", "--header", f"Authorization: Bearer {platform.key}"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--seed", "1"),
        *("--max-examples", str(examples), "--continue-on-failure", "--request-timeout", "30"),
        *(word for name in without for word in ("--exclude-name", name)),
        *("--no-color", "--report-json-path", str(answer)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if not answer.is_file():
        raise SystemExit(
            f"schemathesis ended with status {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        )
    (answer.parent / "fuzz.txt").write_text(done.stdout)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def failures(found: dict[str, Any], *kinds: str) -> int:
    """Failures of these kinds."""
    return sum(failure["count"] for failure in found["failures"] if failure["type"] in kinds)
