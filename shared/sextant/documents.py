"""Spec files: YAML by the 1.2 core schema or JSON, without duplicate keys, with the line of every fault."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sextant.errors import BadInput

MAX_BYTES = 2**20
MAX_NODES = 100_000
EXAMPLES = ("boards", "digits", "forecast", "intents", "photos")
"""Pipelines that come with the package."""

_CORE = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A file's content, and the line of each of its fields (`steps.train.data` -> 7) where they are known."""

    content: dict[str, Any]
    name: str
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of a field, or of the nearest one above it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return None


def load(path: str | Path) -> Document:
    """Read a spec file; `-` is standard input. Raises BadInput, which names the line."""
    name = "standard input" if str(path) == "-" else str(path)
    text = _read(path, name)
    document = Document(_json(text, name), name) if str(path).endswith(".json") else _yaml(text, name)
    check_size(document.content, name)
    return document


def example(name: str) -> Document:
    """One of EXAMPLES. Raises BadInput for another name."""
    return _yaml(example_text(name), f"{name}.yaml")


def example_text(name: str) -> str:
    """The file of one of EXAMPLES, with what it says of itself. Raises BadInput for another name."""
    if name not in EXAMPLES:
        raise BadInput(f"there is no example {name!r}; there are {', '.join(EXAMPLES)}")
    return files("sextant").joinpath("examples", f"{name}.yaml").read_text(encoding="utf-8")


def check_size(content: Any, name: str) -> None:
    """Raise BadInput where aliases make a document endless or huge."""
    waiting, seen = [content], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            raise BadInput(f"{name} has more than {MAX_NODES} values (aliases counted as often as they are used)")
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def scalar(text: str) -> Any:
    """A value as YAML reads it: 3, 1e-3, true, [a, b], or the text itself. Raises BadInput."""
    try:
        return yaml.load(text, _loader())  # noqa: S506 - a SafeLoader with fewer types
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{text[:80]!r} is no YAML value: {error}") from None


def _read(path: str | Path, name: str) -> str:
    try:
        if str(path) == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).expanduser().open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise BadInput(f"{name} is larger than a spec may be ({MAX_BYTES} bytes)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{name}, line {line}: is not UTF-8 text", line=line) from None


def _json(text: str, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadInput(f"{name}: the key {twice!r} stands twice in one object", field=twice)
        return made

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise BadInput(f"{name}, line {error.lineno}: {error.msg}", line=error.lineno) from None
    except RecursionError:
        raise BadInput(f"{name} is nested too deeply") from None
    return _mapping(content, name)


def _yaml(text: str, name: str) -> Document:
    try:
        loader = _loader()(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadInput(
            f"{name}, line {line}: the character U+{ord(text[error.position]):04X} is not accepted", line=line
        ) from None
    lines: dict[str, int] = {}
    try:
        node = loader.get_single_node()
        if node is None:
            raise BadInput(f"{name} is empty; a spec is a mapping that begins with kind: or steps:")
        _walk(node, "", lines, set())
        content = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = mark.line + 1 if mark else None
        raise BadInput(f"{name}, line {at or '?'}: {error.problem or error.context}", line=at) from None
    except yaml.YAMLError as error:
        raise BadInput(f"{name}: {error}") from None
    except (RecursionError, ValueError):
        raise BadInput(f"{name} is nested too deeply or holds a number that is too long") from None
    finally:
        loader.dispose()
    return Document(_mapping(content, name), name, lines)


def _mapping(content: Any, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise BadInput(f"{name} holds a {type(content).__name__}; a spec is a mapping with kind: or steps:")
    return content


def _walk(node: yaml.Node, path: str, lines: dict[str, int], above: set[int]) -> None:
    """Note each field's line. A node within itself (an alias to its own anchor) is refused by the size check."""
    if id(node) in above or len(lines) > MAX_NODES:
        return
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else str(key.value)
            lines[below] = key.start_mark.line + 1
            _walk(value, below, lines, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[f"{path}.{index}"] = value.start_mark.line + 1
            _walk(value, f"{path}.{index}", lines, above)


def _loader() -> type[yaml.SafeLoader]:
    """SafeLoader by the 1.2 core schema: 1e-3 is a number; `no`, 12:30 and 2024-01-01 are text."""

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:str":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} must be text; put it in quotes", key.start_mark
                    )
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    for tag, pattern, first in _CORE:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
    Loader.add_constructor("tag:yaml.org,2002:int", _number(int))
    Loader.add_constructor("tag:yaml.org,2002:float", _number(float))
    return Loader


def _number(kind: type[int] | type[float]) -> Callable[[yaml.SafeLoader, yaml.ScalarNode], int | float]:
    return lambda loader, node: kind(str(loader.construct_scalar(node)))
