"""With what something was made: recorded with each version, so that a difference of a later run can be understood."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

# By the name they are imported under: those whose version can change a result.
PACKAGES = {
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "PIL": "pillow",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "sklearn": "scikit-learn",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}


def made_with() -> dict[str, str]:
    """The platform's version, Python's, the machine's kind, and the versions of those packages that were loaded."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    loaded = {name: package for name, package in PACKAGES.items() if name in sys.modules}
    for package in ("sextant-platform", *loaded.values()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
