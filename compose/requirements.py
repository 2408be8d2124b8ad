"""`python requirements.py PYPROJECT DIRECTORY`: the packages of the core and of each extra, one file each.

Images install from these files before the sources are there, so that a change of the sources installs nothing anew.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def main(pyproject: Path, directory: Path) -> None:
    """Write core.txt and one file for each extra; torch has a layer of its own and is left out."""
    project = tomllib.loads(pyproject.read_text())["project"]
    directory.mkdir(parents=True, exist_ok=True)
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    for name, requirements in groups.items():
        kept = sorted(line for line in requirements if not re.match(r"torch(?![\w.-])", line))
        (directory / f"{name}.txt").write_text("\n".join(kept) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
