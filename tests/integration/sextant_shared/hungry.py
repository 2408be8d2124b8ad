"""`python -m tests.integration.sextant_shared.hungry work DIRECTORY`: work that takes more than it may."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from sextant_shared.execution import child
from sextant_shared.execution.workbench import Result, Workbench

BLOCK = 1 << 23


def work(bench: Workbench) -> Result:
    """As the job's name says."""
    held: list[object] = []
    while True:
        match bench.order.name:
            case "memory":
                held.append(bytearray(b"x") * BLOCK)
            case "disk":
                (bench.out / str(len(held))).write_bytes(bytes(range(256)) * (BLOCK // 256))
                held.append(None)
            case "processes":
                held.append(subprocess.Popen(["sleep", "60"], start_new_session=False))
            case "frugal":
                return Result(outputs={"done": True})
        if bench.order.name != "cpu":
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(child.main(Path(sys.argv[2]), {"export": work}))
