"""What Compose starts is safe by default, and what its files name is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    content = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())
    found: dict[str, Any] = content["services"]
    return found


def test_only_the_api_is_published_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"scheduler-api": ["127.0.0.1:${SEXTANT_PORT:-8700}:8700"]}


def test_every_secret_is_made_by_the_script_and_has_no_default(tmp_path: Path) -> None:
    text = (COMPOSE / "docker-compose.yml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    file = tmp_path / ".env"
    subprocess.run([COMPOSE / "secrets", file], check=True, capture_output=True)
    made = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    assert needed <= set(made)
    assert not re.search(r"\$\{SEXTANT_\w*(PASSWORD|KEY)\w*:-", text)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len({made[name] for name in needed}) == len(needed)


def test_secrets_that_exist_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("mine")
    done = subprocess.run([COMPOSE / "secrets", file], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exists and was left alone" in done.stderr
    assert file.read_text() == "mine"


def test_every_service_runs_what_the_repository_has(services: dict[str, Any]) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE))
    for service in services.values():
        if "build" in service:
            assert service["build"]["target"] in targets
            assert (COMPOSE / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_every_file_that_is_mounted_exists(services: dict[str, Any]) -> None:
    mounts = [volume for service in services.values() for volume in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    assert all((COMPOSE / file).is_file() for file in files)


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((COMPOSE / "grafana/sextant.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"sextant_\w+", target["expr"])
    }
    code = "\n".join(path.read_text() for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py"))
    known = set(re.findall(r'"(sextant_\w+)"', code))
    suffixes = r"_(bucket|count|sum|total|created)$"
    assert asked
    assert {re.sub(suffixes, "", name) for name in asked} <= {re.sub(suffixes, "", name) for name in known}


def test_requirements_give_each_extra_without_torch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, COMPOSE / "requirements.py", ROOT / "pyproject.toml", tmp_path], check=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {file.stem for file in tmp_path.iterdir()} == {"core", *extras}
    assert not [file for file in tmp_path.iterdir() if re.search(r"^torch", file.read_text(), re.MULTILINE)]
