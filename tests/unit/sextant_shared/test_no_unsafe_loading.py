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
TENSORS_ALONE = "torch.load of tensors alone"
ALLOWED = {
    # By a SafeLoader with fewer types.
    "shared/sextant/documents.py": ["yaml.load"],
    # Of one file, whose hash stands in the source and is compared first (ADR 0023).
    "shared/sextant_zoo/pretrained.py": [TENSORS_ALONE],
}
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
            name = dotted(node.func)
            if name in CALLS:
                yield TENSORS_ALONE if name == "torch.load" and loads_tensors_alone(node) else name
            yield from ("shell=True" for word in node.keywords if word.arg == "shell" and is_true(word.value))
            yield from (word.arg for word in node.keywords if word.arg == "allow_pickle" and is_true(word.value))


def loads_tensors_alone(call: ast.Call) -> bool:
    """Whether torch's restricted reader is asked for, in so many words."""
    said = [word.value for word in call.keywords if word.arg == "weights_only"]
    return len(said) == 1 and isinstance(said[0], ast.Constant) and said[0].value is True


def is_true(node: ast.expr) -> bool:
    """Whether it is anything but False."""
    return not (isinstance(node, ast.Constant) and node.value is False)


def test_no_file_of_the_product_uses_it() -> None:
    assert len(FILES) > 200
    found = {str(path.relative_to(ROOT)): sorted(set(unsafe(ast.parse(path.read_text())))) for path in FILES}
    assert {path: what for path, what in found.items() if what} == ALLOWED


def test_torch_is_told_apart_by_what_it_loads() -> None:
    for code in ("torch.load(p, weights_only=x)", "torch.load(p, weights_only=False)"):
        assert list(unsafe(ast.parse(code))) == ["torch.load"]
    assert list(unsafe(ast.parse("torch.load(p, weights_only=True)"))) == [TENSORS_ALONE]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(p)",
        "torch.load(p, weights_only=True)",
        "torch.load(p, weights_only=False)",
        "eval(x)",
        "run(x, shell=True)",
        "np.load(p)",
        "yaml.load(x)",
    ],
)
def test_the_search_finds_it_where_it_is(code: str) -> None:
    assert list(unsafe(ast.parse(code)))
