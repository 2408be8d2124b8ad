"""Spec files, and which server and key are meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sextant import _specs as specs
from sextant import documents
from sextant.errors import BadInput
from sextant.profile import DEFAULT_URL, resolve


def _load(tmp_path: Path, text: str, name: str = "a.yaml") -> documents.Document:
    file = tmp_path / name
    file.write_text(text)
    return documents.load(file)


def test_values_are_read_as_their_writers_mean(tmp_path: Path) -> None:
    text = "a: 1e-3\nb: no\nc: 12:30\nd: 2024-01-01\ne: 010\nf: true\ng: ~\nh:\ni: -3\nj: .5\nk: '1'\n"
    expected = {"a": 0.001, "b": "no", "c": "12:30", "d": "2024-01-01", "e": 10, "f": True, "g": None, "h": None}
    assert _load(tmp_path, text).content == {**expected, "i": -3, "j": 0.5, "k": "1"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: probe\nkind: probe\n", 2),
        ("steps:\n  a: {kind: probe}\n  b: {kind: probe}\n  a: {kind: train}\n", 4),
        ("kind: probe\n\tname: x\n", 2),
        ("kind: [probe\n", 2),
        ("kind: !!python/object/apply:os.system ['true']\n", 1),
        ("a: 1\n3: 4\n", 2),
        ("a: *nothing\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: 1\nb: \x00\n", 2),
    ],
)
def test_a_fault_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(BadInput) as caught:
        _load(tmp_path, text)
    assert caught.value.line == line
    assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "text", "a: &a [*a]\n", "a: " + "[" * 5000])
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput):
        _load(tmp_path, text)


def test_aliases_cannot_blow_a_file_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(BadInput, match="more than"):
        _load(tmp_path, "\n".join(lines))


def test_json_with_a_key_twice_or_a_fault_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="twice"):
        _load(tmp_path, '{"a": 1, "a": 2}', "a.json")
    with pytest.raises(BadInput, match="line 2"):
        _load(tmp_path, '{"a": 1,\n}', "a.json")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nother: \xff\n")
    (tmp_path / "big.yaml").write_bytes(b"a" * (documents.MAX_BYTES + 1))
    for name, told in (
        ("none.yaml", "No such file"),
        (".", "directory"),
        ("latin.yaml", "line 2"),
        ("big.yaml", "larg"),
    ):
        with pytest.raises(BadInput, match=told):
            documents.load(tmp_path / name)


def test_a_field_has_its_line_or_that_of_what_holds_it(tmp_path: Path) -> None:
    document = _load(tmp_path, "name: x\nsteps:\n  a:\n    kind: probe\n    list: [1,\n      2]\n")
    assert document.line_of("steps.a.kind") == 4
    assert document.line_of("steps.a.list.1") == 6
    assert document.line_of("steps.a.missing") == 3
    assert document.line_of("other") is None


def test_set_changes_one_field() -> None:
    spec = {"steps": {"a": {"epochs": 1, "tags": [1, 2]}}}
    assert specs.put(spec, "steps.a.config.rate=1e-3")["steps"]["a"]["config"] == {"rate": 0.001}
    assert specs.put(spec, "steps.a.tags.1=x")["steps"]["a"]["tags"] == [1, "x"]
    assert specs.put(spec, "name=a=b")["name"] == "a=b"
    assert spec == {"steps": {"a": {"epochs": 1, "tags": [1, 2]}}}


@pytest.mark.parametrize("assignment", ["a", "=1", "a..b=1", "steps.a.b=1", "list.7=1", "a=[", "a={b: 1, b: 2}"])
def test_a_set_that_sets_nothing_is_refused(assignment: str) -> None:
    with pytest.raises(BadInput):
        specs.put({"steps": {"a": 3}, "list": [1]}, assignment)


def test_arguments_go_before_the_environment_before_the_local_stack(tmp_path: Path) -> None:
    home = {"SEXTANT_HOME": str(tmp_path)}
    assert resolve(environ=home).url == DEFAULT_URL
    (tmp_path / "client.json").write_text(json.dumps({"url": "http://127.0.0.1:8701", "key": "sx_local"}))
    local = resolve(environ=home)
    assert (local.url, local.key) == ("http://127.0.0.1:8701", "sx_local")
    environ = {**home, "SEXTANT_URL": "https://b/", "SEXTANT_API_KEY": "sx_env"}
    assert (resolve(environ=environ).url, resolve(environ=environ).key) == ("https://b", "sx_env")
    assert resolve("http://c", "sx_arg", environ).key == "sx_arg"


def test_the_local_key_goes_to_no_other_server(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_text(json.dumps({"url": "http://127.0.0.1:8701", "key": "sx_local"}))
    assert resolve("https://elsewhere", environ={"SEXTANT_HOME": str(tmp_path)}).key is None
    assert "sx_local" not in repr(resolve(environ={"SEXTANT_HOME": str(tmp_path)}))


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8700", "http://", "http://x:99999", "http://[bad"])
def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput, match="accepted"):
        resolve(url, environ={"SEXTANT_HOME": str(tmp_path)})


def test_a_broken_profile_is_told(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_text("{")
    with pytest.raises(BadInput, match=r"client\.json"):
        resolve(environ={"SEXTANT_HOME": str(tmp_path)})
