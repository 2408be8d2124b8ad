"""Our own lint rules, for classes of mistakes that no other tool finds. Prints each finding and exits with 1."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("services", "shared", "kernels", "migrations")
LIFECYCLE = "shared/sextant_shared/lifecycle/"
WRITES_STATE = re.compile(r"\bUPDATE\s+jobs\s+SET\b[^;]*\b(state|fence)\s*=")
MAX_FUNCTION = 70
MAX_FILE = 500


def main() -> int:
    """Check every source file; 1 where a rule is broken."""
    findings = [finding for path in _files() for finding in _check(path)]
    for finding in findings:
        sys.stdout.write(finding + "\n")
    return 1 if findings else 0


def _files() -> Iterator[Path]:
    for folder in SOURCES:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _check(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text()
    tree = ast.parse(text)
    if text.count("\n") > MAX_FILE and "/versions/" not in name:
        yield f"{name}: {text.count(chr(10))} lines; split what is over {MAX_FILE}"
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        yield from (f"{where}: {message}" for message in _check_node(node, name))


def _check_node(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "/versions/" not in name:
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION:
            yield f"{node.name} has {length} lines; at most {MAX_FUNCTION}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit":
        # Transactions end where they began: `with engine.begin()`. A commit in between would publish half a change.
        yield "commit only by leaving engine.begin(), at the edge"
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        if module and module.split(".")[0] in ("pickle", "cloudpickle", "joblib", "dill", "marshal"):
            yield f"{module} runs code that it loads; use JSON, Arrow, safetensors or ONNX"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and not name.startswith(LIFECYCLE):
        first, _, _ = node.value.partition("WHERE")
        if WRITES_STATE.search(first):
            yield "job state is written by sextant_shared.lifecycle alone"


if __name__ == "__main__":
    sys.exit(main())
