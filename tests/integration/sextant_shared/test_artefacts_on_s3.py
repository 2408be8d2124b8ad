"""Artefacts on a real S3-compatible store: published, fetched by another machine, opened in the middle, discarded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from tests.bench.object_store import BUCKET, object_store

from sextant_shared.artefacts import Artefacts, File
from sextant_shared.errors import NotFound, Unavailable

URL = f"s3://{BUCKET}/platform"


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A store, known by the environment, as a service knows it."""
    with object_store(tmp_path_factory.mktemp("store")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setitem(os.environ, name, value)
        yield


def published(tmp_path: Path, prefix: str) -> tuple[Artefacts, list[File]]:
    """Two files of an attempt."""
    source = tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    (source / "a.bin").write_bytes(bytes(range(256)) * 4096)
    (source / "sub" / "b.txt").write_text("two")
    artefacts = Artefacts(URL, tmp_path / "cache")
    return artefacts, artefacts.publish(source, prefix)


def test_another_machine_gets_what_was_published(tmp_path: Path) -> None:
    _, files = published(tmp_path, "job/1")
    assert [file.path for file in files] == ["a.bin", "sub/b.txt"]
    other = Artefacts(URL, tmp_path / "other")
    directory = other.fetch("job/1", files)
    assert (directory / "a.bin").read_bytes() == bytes(range(256)) * 4096
    assert (directory / "sub" / "b.txt").read_text() == "two"
    assert other.fetch("job/1", files) == directory


def test_a_file_is_opened_in_its_middle(tmp_path: Path) -> None:
    artefacts, _ = published(tmp_path, "job/2")
    assert b"".join(artefacts.open("job/2", "a.bin", offset=(1 << 20) - 3)) == bytes((253, 254, 255))
    with pytest.raises(NotFound, match=r"c\.bin"):
        list(artefacts.open("job/2", "c.bin"))


def test_bytes_that_are_not_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    artefacts, (first, _) = published(tmp_path, "job/3")
    with pytest.raises(Unavailable, match="hash"):
        artefacts.fetch("job/3", [File(first.path, first.size, "0" * 64)])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    artefacts, _ = published(tmp_path, "job/4")
    with pytest.raises(NotFound, match="gone"):
        artefacts.fetch("job/4", [File("gone", 1, "0" * 64)])


def test_a_discarded_prefix_is_gone(tmp_path: Path) -> None:
    artefacts, files = published(tmp_path, "job/5")
    artefacts.discard("job/5")
    artefacts.discard("job/5")
    with pytest.raises(NotFound):
        Artefacts(URL, tmp_path / "other").fetch("job/5", files)


def test_a_store_that_refuses_is_told_without_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    fsspec.filesystem("s3").clear_instance_cache()
    artefacts = Artefacts(URL, tmp_path / "cache")
    with pytest.raises(Unavailable) as caught:
        artefacts.fetch("job/6", [File("a", 1, "0" * 64)])
    fsspec.filesystem("s3").clear_instance_cache()
    assert "127.0.0.1" not in caught.value.message
