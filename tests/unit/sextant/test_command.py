"""The command as a script sees it: exit codes and --json; and as a person does: tables and messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from sextant.command.app import build

PIPELINE = "name: digits\nsteps:\n  first: {kind: probe}\n  train: {kind: train}\n"
NO_JOB = "0190f5b0-0000-7000-8000-000000000000"


def run(*words: str, given: str | None = None) -> Any:
    return CliRunner().invoke(build(), list(words), input=given)


def document(result: Any) -> Any:
    """The standard output, which must be one JSON document; nothing may stand on standard error."""
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    file = tmp_path / "digits.yaml"
    file.write_text(PIPELINE)
    return str(file)


def test_submit_prints_the_id_and_what_to_do_next(served: Any, spec: str) -> None:
    result = run("submit", spec)
    assert result.exit_code == 0
    (job,) = served.world.jobs
    assert f"sextant logs -f {job}" in result.stdout


def test_submit_json_is_one_document(served: Any, spec: str) -> None:
    result = run("submit", spec, "--json", "--set", "steps.first.seed=3", "--key", "k1")
    assert document(result)["kind"] == "pipeline"
    assert served.world.bodies[0]["steps"]["first"] == {"kind": "probe", "seed": 3}
    assert list(served.world.replies) == ["k1"]


def test_submit_uploads_code_for_what_runs_it(served: Any, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print()")
    (tmp_path / "job.yaml").write_text("steps: {own: {kind: script}}\n")
    done = run("submit", str(tmp_path / "job.yaml"), "--code", str(tmp_path / "code"))
    assert done.exit_code == 0, done.output
    [upload] = served.world.uploads.values()
    assert upload["path"] == "code.tar"
    assert served.world.bodies[-1]["steps"] == {"own": {"kind": "script", "code": upload["uri"]}}
    refused = run("submit", "-", "--code", str(tmp_path / "code"), given="kind: probe")
    assert refused.exit_code == 2
    assert "nothing in the spec runs it" in refused.output


def test_follow_shows_every_step_and_ends_with_0(served: Any, spec: str) -> None:
    result = run("submit", spec, "--follow")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.strip().startswith("first (probe) RUNNING") for line in lines)
    assert any("train (train) SUCCEEDED" in line and "val_accuracy 0.97" in line for line in lines)
    assert lines[-1].startswith("pipeline digits is SUCCEEDED")


def test_follow_of_a_failing_job_ends_with_1_and_the_errors(served: Any, spec: str) -> None:
    served.world.ends_as = "FAILED"
    result = run("submit", spec, "-f")
    assert result.exit_code == 1
    assert "train: train broke [31mbadly" in result.stderr
    assert "\x1b" not in result.stderr


def test_follow_json_is_the_job_as_it_ended(served: Any, spec: str) -> None:
    served.world.ends_as = "FAILED"
    result = run("submit", spec, "--follow", "--json")
    assert result.exit_code == 1
    assert document(result)["state"] == "FAILED"


def test_an_unknown_field_is_a_table_with_its_line(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("kind: probe\nname: x\nslep_s: 3\n")
    for command, told in (("submit", "error: 422"), ("validate", "would be refused")):
        result = run(command, str(file))
        assert result.exit_code == 2
        assert told in result.stderr
        (row,) = (
            line
            for line in result.stderr.splitlines()
            if "Extra inputs" in line and "slep_s" in line and "422" not in line
        )
        assert row.split()[:2] == ["3", "slep_s"]
    findings = document(run("submit", str(file), "--json"))["error"]["findings"]
    assert findings[0]["field"] == "slep_s"


def test_validate_says_yes(served: Any, spec: str) -> None:
    assert run("validate", spec).exit_code == 0
    assert document(run("validate", spec, "--json"))["valid"] is True
    assert served.world.jobs == {}


@pytest.mark.parametrize("text", ["kind: [", "kind: probe\nkind: probe", "- a", ""])
def test_a_bad_file_is_one_clear_line(served: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    result = run("submit", str(file))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(file) in result.stderr
    assert served.world.seen == []


def test_a_spec_comes_from_standard_input_too(served: Any) -> None:
    assert run("submit", "-", "--json", given='{"kind": "probe"}').exit_code == 0


def test_jobs_lists_and_filters(served: Any, spec: str) -> None:
    for _ in range(3):
        run("submit", spec)
    assert len(document(run("jobs", "--json"))) == 3
    assert document(run("jobs", "--state", "running", "--json")) == []
    table = run("jobs").stdout
    assert all(job in table for job in served.world.jobs)


def test_logs_are_prefixed_by_step_and_followed_to_the_end(served: Any, spec: str) -> None:
    job = document(run("submit", spec, "--json"))["id"]
    assert run("logs", job).stdout == "train | epoch 1\ntrain | epoch 2\n"
    followed = run("logs", "-f", job)
    assert followed.stdout == "train | epoch 1\ntrain | epoch 2\ntrain | live line\n"
    texts = [json.loads(line)["text"] for line in run("logs", "-f", job, "--json").stdout.splitlines()]
    assert texts == ["epoch 1\nepoch 2", "live line"]


def test_exit_codes_tell_what_went_wrong(served: Any, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = document(run("submit", spec, "--json"))["id"]
    served.world.jobs[job]["state"] = "SUCCEEDED"
    assert run("cancel", job).exit_code == 5
    assert run("job", NO_JOB).exit_code == 5
    assert run("job", "nonsense").exit_code == 2
    assert run("jobs", "--nonsense").exit_code == 2
    assert run("nodes").exit_code == 4
    assert run("audit", "verify", "--pubkey", "/no/such").exit_code == 2
    assert run("audit", "verify", job, "more").exit_code == 2
    assert run("--url", "http://127.0.0.1:9", "jobs").exit_code == 3
    monkeypatch.setenv("SEXTANT_API_KEY", "sx_wrong")
    refused = run("jobs", "--json")
    assert refused.exit_code == 4
    assert document(refused)["error"]["status"] == 401


def test_cancel_passes_the_reason_on(served: Any, spec: str) -> None:
    job = document(run("submit", spec, "--json"))["id"]
    assert document(run("cancel", job, "--reason", "wrong data", "--json"))["state"] == "CANCELLED"
    assert served.world.bodies[-1] == {"reason": "wrong data"}


def test_why_gives_reason_and_remedy(served: Any, spec: str) -> None:
    job = document(run("submit", spec, "--json"))["id"]
    assert "no slot is free; start another node" in run("why", job).stdout


def test_data_and_models(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "raw.csv"
    file.write_text("a,b\n1,2\n")
    served.world.files = {"model.json": b"{}"}
    pushed = document(run("data", "push", str(file), "--json"))
    assert pushed["completed"] is True
    assert pushed["uri"] in run("data", "push", str(file)).stdout
    assert run("data", "push", str(tmp_path / "none")).exit_code == 2
    assert "digits" in run("models", "list").stdout
    assert document(run("models", "show", "digits@3", "--json"))["version"] == 3
    pulled = document(run("models", "pull", "digits", "-o", str(tmp_path / "m"), "--json"))
    assert pulled["files"] == [str(tmp_path / "m" / "model.json")]
    assert run("models", "pull", "other").exit_code == 5


def test_predict_from_file_and_standard_input(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[[1, 2], [3, 4]]")
    assert "scores FP32[1, 2]: [[0.25, 0.75]]" in run("predict", "digits", "--data", str(file)).stdout
    answer = document(run("predict", "digits", "--data", "-", "--json", given='{"image": [[[1, 2], [3, 4]]]}'))
    assert answer["outputs"][0]["data"] == [0.25, 0.75]
    bad = run("predict", "digits", "--data", "-", given="[1,\n")
    assert (bad.exit_code, "line 2" in bad.stderr) == (2, True)
    assert run("predict", "other", "--data", str(file)).exit_code == 5


def test_a_new_keys_secret_is_alone_on_standard_output(served: Any) -> None:
    result = run("keys", "create", "ci", "--scope", "jobs:read")
    assert result.stdout == "sx_abc_s3cret\n"
    result = run("keys", "rotate", str(uuid4()), "--overlap-hours", "0.5")
    assert result.stdout == "sx_new_1800\n"


def test_version_names_both_sides(served: Any) -> None:
    assert document(run("version", "--json"))["server"] == "9.9.9"
    assert document(run("--url", "http://127.0.0.1:9", "version", "--json"))["server"] is None


def test_every_command_has_json() -> None:
    def without(command: Any, path: str) -> list[str]:
        below = getattr(command, "commands", None)
        if below is not None:
            return [name for word, child in below.items() for name in without(child, f"{path} {word}")]
        return [] if any("--json" in parameter.opts for parameter in command.params) else [path]

    assert without(get_command(build()), "sextant") == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [("sextant su", {"submit"}), ("sextant data pu", {"push", "pull"}), ("sextant jobs --ki", {"--kind"})],
)
def test_the_shell_completes_commands_and_options(words: str, offered: set[str]) -> None:
    asked = {"_SEXTANT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from sextant.command import main; main()"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered, done.stderr


def test_help_is_quick_and_loads_neither_httpx_nor_pydantic() -> None:
    code = (
        "import sys\ntry:\n    from sextant.command import main; main()\n"
        "except SystemExit as e:\n    heavy = {'httpx', 'pydantic', 'yaml', 'rich.live'} & set(sys.modules)\n"
        "    sys.exit(str(heavy) if heavy or e.code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exit codes: 0 done" in done.stdout


def test_an_interrupt_while_following_ends_with_130_and_leaves_the_job(served: Any, spec: str) -> None:
    served.world.cut_streams = 10_000  # the stream never comes to its end
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "from sextant.command import main; main()", "submit", spec, "-f"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ, **pipes) as process:
        assert process.stdout is not None
        assert "digits" in process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "the job goes on" in told
    assert "Traceback" not in told
    assert [job["state"] for job in served.world.jobs.values()] == ["QUEUED"]
