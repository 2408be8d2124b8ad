"""What Compose starts is safe by default, and what its files name is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sextant_shared.contracts.rights import SERVICES, account, nats_users, redis_users

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose"
METRIC = re.compile(r'(?:Gauge|Counter|Histogram)\(\s*"(sextant_[a-z_]+)"')


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    content = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())
    found: dict[str, Any] = content["services"]
    return found


def secrets(file: Path) -> dict[str, str]:
    """The variables in a file that compose/secrets wrote."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))


def requirements(project: Path, directory: Path) -> dict[str, list[str]]:
    """What compose/requirements.py makes of a project file: the packages by the file's name."""
    subprocess.run([sys.executable, COMPOSE / "requirements.py", project, directory], check=True)
    return {file.stem: file.read_text().split() for file in directory.iterdir()}


def test_only_the_api_is_published_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"scheduler-api": ["127.0.0.1:${SEXTANT_PORT:-8700}:8700"]}
    assert not [name for name, service in services.items() if "network_mode" in service]


def test_every_secret_is_made_by_the_script_and_has_no_default(tmp_path: Path) -> None:
    text = (COMPOSE / "docker-compose.yml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    file = tmp_path / ".env"
    subprocess.run([COMPOSE / "secrets", file], check=True, capture_output=True)
    made = secrets(file)
    assert needed <= set(made)
    assert not re.search(r"\$\{SEXTANT_\w*(PASSWORD|KEY)\w*:-", text)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len({made[name] for name in needed}) == len(needed)


def variables(form: str) -> dict[str, str]:
    """Each service's password as a variable, in the form that a file has it in."""
    return {service: form.format(f"SEXTANT_{service.upper().replace('-', '_')}_PASSWORD") for service in SERVICES}


def test_each_service_has_an_account_of_its_own_on_each_server(services: dict[str, Any]) -> None:
    for service, rights in SERVICES.items():
        told = services[service]["environment"]
        secret = f"{account(service)}:{variables('${{{}:?run compose/secrets first}}')[service]}"
        assert told["SEXTANT_DATABASE_URL"] == f"postgresql+psycopg://{secret}@postgres:5432/sextant"
        assert told["SEXTANT_NATS_URL"] == (f"nats://{secret}@nats:4222" if rights.speaks else "")
        assert told["SEXTANT_REDIS_URL"] == (f"redis://{secret}@redis:6379/0" if rights.queues else "")
        owners = {"SEXTANT_POSTGRES_PASSWORD", "SEXTANT_REDIS_PASSWORD", "SEXTANT_ADMIN_KEY", "SEXTANT_ROLES"}
        assert not [name for name in owners if name in str(told)]
        others = {other for other in SERVICES if other != service}
        assert not [other for other in others if variables("{}")[other] in str(told)]


def test_the_brokers_accounts_have_the_rights_that_the_contract_names(services: dict[str, Any]) -> None:
    lines = [line.strip() for line in (COMPOSE / "nats.conf").read_text().splitlines()]
    assert [line for line in lines if line.startswith("{ user")] == nats_users(variables("${}"))
    lines = [line.strip() for line in services["redis"]["command"][-1].splitlines()]
    assert [line for line in lines if line.startswith("user ")] == redis_users(variables("$${}"))


def test_the_roles_of_the_database_are_made_before_any_service_starts(services: dict[str, Any]) -> None:
    made = services["migrate"]["environment"]["SEXTANT_ROLES"].replace(":?run compose/secrets first", "")
    assert made.split() == [f"{service}:{secret}" for service, secret in variables("${{{}}}").items()]
    for service in SERVICES:
        assert services[service]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_secrets_that_exist_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("mine")
    done = subprocess.run([COMPOSE / "secrets", file], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exists and was left alone" in done.stderr
    assert file.read_text() == "mine"


def test_new_secrets_replace_all_old_ones_and_no_setting(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    subprocess.run([COMPOSE / "secrets", file], check=True, capture_output=True)
    old = secrets(file)
    with file.open("a") as settings:
        settings.write("SEXTANT_PORT=9999")  # without an end of line, as editors may leave it
    subprocess.run([COMPOSE / "secrets", "--force", file], check=True, capture_output=True)
    new = secrets(file)
    assert new["SEXTANT_PORT"] == "9999"
    assert {name for name in old if new[name] == old[name]} == {"COMPOSE_PROJECT_NAME"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_every_setting_is_documented() -> None:
    named = set(re.findall(r"\$\{(\w+):?-", (COMPOSE / "docker-compose.yml").read_text())) | {"SEXTANT_SLOTS"}
    text = (ROOT / "docs/compose.md").read_text()
    assert {name for name in named if f"`{name}`" not in text} == set()


def test_every_service_runs_what_the_repository_has(services: dict[str, Any]) -> None:
    dockerfile = (COMPOSE / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    arguments = set(re.findall(r"^ARG (\w+)=", dockerfile, re.MULTILINE))
    for build in (service["build"] for service in services.values() if "build" in service):
        assert build["target"] in targets
        assert set(build.get("args", {})) <= arguments
        assert (COMPOSE / build["context"] / build["dockerfile"]).samefile(COMPOSE / "Dockerfile")


def test_what_holds_torch_is_built_with_the_same_torch(services: dict[str, Any]) -> None:
    built = {name: service["build"].get("args") for name, service in services.items() if "build" in service}
    arguments = {"TORCH_VARIANT": "${TORCH_VARIANT:-}", "TORCH_INDEX_URL": "${TORCH_INDEX_URL:-}"}
    assert {name: args for name, args in built.items() if args} == {"exporter": arguments, "trainer": arguments}


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
    sources = [path.read_text() for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]
    made = {name for source in sources for name in METRIC.findall(source)}
    assert asked
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} <= made


def test_requirements_are_those_of_the_core_and_of_each_extra_without_torch(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    packages = '["torch>=2", "torch", "torch[opt]>=2", "torchao>=0.1", "numpy>=2"]'
    project.write_text(f'[project]\ndependencies = ["redis>=6"]\n[project.optional-dependencies]\ntrain = {packages}\n')
    assert requirements(project, tmp_path / "made") == {"core": ["redis>=6"], "train": ["numpy>=2", "torchao>=0.1"]}


def test_images_install_extras_that_the_project_has(tmp_path: Path) -> None:
    installed = set(re.findall(r"-r \S+/requirements/(\w+)\.txt", (COMPOSE / "Dockerfile").read_text()))
    made = requirements(ROOT / "pyproject.toml", tmp_path)
    assert {"core", "train"} <= installed <= set(made)
    assert all(made[name] for name in installed)
