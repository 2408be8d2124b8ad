"""Where a script finds what it is given and leaves what it makes, and the environment that tells it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sextant_shared.contracts.specs import ScriptSpec
from sextant_shared.execution.workbench import Workbench

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Rooms:
    """The directories of one attempt of a script."""

    code: Path
    root: Path
    given: dict[str, Path]
    """Data, a model, a checkpoint to go on from: by the variable that names them."""

    @classmethod
    def make(cls, bench: Workbench, spec: ScriptSpec, code: Path) -> Rooms:
        """All but the code are new."""
        root = bench.directory / "script"
        for name in ("output", "checkpoints", "tmp"):
            (root / name).mkdir(parents=True)
        (root / "config.json").write_text(json.dumps(spec.config, indent=1, sort_keys=True))
        order = bench.order
        fields = [field for field in ("data", "model") if field in order.inputs]
        named = {f"SEXTANT_{field.upper()}": order.input(field).path for field in fields}
        if order.resume:
            named["SEXTANT_RESUME"] = order.resume.path
        return cls(code, root, {name: Path(path) for name, path in named.items() if path})

    @property
    def output(self) -> Path:
        """What becomes artefacts."""
        return self.root / "output"

    @property
    def checkpoints(self) -> Path:
        """Each in a directory of its own."""
        return self.root / "checkpoints"

    @property
    def readable(self) -> list[Path]:
        """What the script may read besides what it may write."""
        return [self.code, self.root / "config.json", *self.given.values()]

    @property
    def writable(self) -> list[Path]:
        """What the script may write."""
        return [self.output, self.checkpoints, self.root / "tmp"]

    def environment(self, bench: Workbench, report: int) -> dict[str, str]:
        """All that the script knows of this machine and of its job."""
        temporary = str(self.root / "tmp")
        return {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            **dict.fromkeys(("HOME", "TMPDIR"), temporary),
            "PYTHONPATH": str(self.code),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: str(path) for name, path in self.given.items()},
            "SEXTANT_JOB": bench.order.job_id,
            "SEXTANT_ATTEMPT": str(bench.order.attempt),
            "SEXTANT_CONFIG": str(self.root / "config.json"),
            "SEXTANT_OUTPUT": str(self.output),
            "SEXTANT_CHECKPOINTS": str(self.checkpoints),
            "SEXTANT_REPORT_FD": str(report),
        }
