"""What the documentation says is all that there is, and the tree is as it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from sextant_exporter.settings import ExporterSettings
from sextant_inference.settings import InferenceSettings
from sextant_scheduler.settings import MigrateSettings, SchedulerSettings
from sextant_shared.contracts.augmentation import Augmentation
from sextant_shared.contracts.specs import BY_KIND, TrainConfig
from sextant_trainer.settings import AgentSettings

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = (SchedulerSettings, MigrateSettings, InferenceSettings, AgentSettings, ExporterSettings)
METRIC = re.compile(r'(?:Gauge|Counter|Histogram)\(\s*"(sextant_[a-z_]+)"')
TOP = {"services", "shared", "kernels", "migrations", "compose", "tests", "scripts", "docs"}
LINK = re.compile(r"\]\(([^)#]+)\)")


def tracked() -> list[Path]:
    """The files of the repository; none in an unpacked archive, which has no index."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [Path(line) for line in listed.stdout.splitlines()]


@pytest.mark.parametrize("model", [*BY_KIND.values(), TrainConfig, Augmentation])
def test_every_field_of_a_job_is_documented(model: type[BaseModel]) -> None:
    text = (ROOT / "docs/jobs.md").read_text()
    for name in model.model_fields:
        assert re.search(rf"`([a-z]+\.)?{name}(\.[a-z_]+)?`", text), f"{model.__name__}.{name}"


@pytest.mark.parametrize("model", SETTINGS)
def test_every_setting_is_documented(model: type[BaseModel]) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    for name in model.model_fields:
        assert f"`SEXTANT_{name.upper()}`" in text, name


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    sources = [path.read_text() for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]
    made = {name for source in sources for name in METRIC.findall(source)}
    documented = set(re.findall(r"`(sextant_[a-z_]+)", (ROOT / "docs/operations.md").read_text()))
    assert made == documented


def test_folders_at_the_top_are_those_of_the_design() -> None:
    folders = {path.parts[0] for path in tracked() if len(path.parts) > 1}
    assert {folder for folder in folders if not folder.startswith(".")} <= TOP


def test_tests_are_sorted_by_kind_and_package() -> None:
    kinds = {"unit", "contract", "integration", "e2e", "chaos", "bench", "mutants", "simulation"}
    for path in tracked():
        if path.parts[0] == "tests" and len(path.parts) > 2:
            assert path.parts[1] in kinds, path


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in tracked():
        if path.suffix == ".md":
            for target in LINK.findall((ROOT / path).read_text()):
                if "://" not in target:
                    assert (ROOT / path.parent / target).exists(), f"{path}: {target}"
