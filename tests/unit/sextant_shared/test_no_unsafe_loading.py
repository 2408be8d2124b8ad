"""Nothing in the product opens what can run code when it is opened."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {
    *("eval", "exec", "compile", "os.system"),
    *("torch.load", "np.load", "numpy.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
}
ALLOWED = {"shared/sextant/documents.py": ["yaml.load"]}
"""By a SafeLoader with fewer types."""
FILES = [path for folder in ("services", "shared", "kernels", "migrations") for path in (ROOT / folder).rglob("*.py")]


def dotted(node: ast.expr) -> str:
    """The name of what is called."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Imports and calls that are not to be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            if dotted(node.func) in CALLS:
                yield dotted(node.func)
            yield from ("shell=True" for word in node.keywords if word.arg == "shell" and is_true(word.value))
            yield from (word.arg for word in node.keywords if word.arg == "allow_pickle" and is_true(word.value))


def is_true(node: ast.expr) -> bool:
    """Whether it is anything but False."""
    return not (isinstance(node, ast.Constant) and node.value is False)


def test_no_file_of_the_product_uses_it() -> None:
    assert len(FILES) > 200
    found = {str(path.relative_to(ROOT)): sorted(set(unsafe(ast.parse(path.read_text())))) for path in FILES}
    assert {path: what for path, what in found.items() if what} == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(p)",
        "eval(x)",
        "run(x, shell=True)",
        "np.load(p)",
        "yaml.load(x)",
    ],
)
def test_the_search_finds_it_where_it_is(code: str) -> None:
    assert list(unsafe(ast.parse(code)))
