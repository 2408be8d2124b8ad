"""The artefact store: on a local directory, and on a file system that is not local."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from sextant_shared.artefacts import Artefacts, digest_of, safe_path
from sextant_shared.errors import InvalidInput, NotFound, Unavailable


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artefacts:
    """A store on each kind of file system."""
    url = f"file://{tmp_path}/store" if request.param == "file" else f"memory://{tmp_path.name}"
    return Artefacts(url, tmp_path / "cache")


def written(directory: Path) -> Path:
    """Two files, one in a directory."""
    (directory / "sub").mkdir(parents=True)
    (directory / "a.txt").write_bytes(b"one")
    (directory / "sub" / "b.bin").write_bytes(bytes(range(256)) * 5000)
    return directory


def test_what_is_published_is_fetched_again(store: Artefacts, tmp_path: Path) -> None:
    files = store.publish(written(tmp_path / "out"), "job/1")
    assert sorted(file.path for file in files) == ["a.txt", "sub/b.bin"]
    directory = store.fetch("job/1", files)
    assert (directory / "a.txt").read_bytes() == b"one"
    assert (directory / "sub" / "b.bin").stat().st_size == 256 * 5000


def test_a_file_is_read_from_an_offset_on(store: Artefacts, tmp_path: Path) -> None:
    store.publish(written(tmp_path / "out"), "job/1")
    assert b"".join(store.open("job/1", "a.txt", 1)) == b"ne"


def test_what_was_discarded_is_gone(store: Artefacts, tmp_path: Path) -> None:
    store.publish(written(tmp_path / "out"), "job/1")
    store.discard("job/1")
    with pytest.raises(NotFound):
        list(store.open("job/1", "a.txt"))


def test_bytes_that_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    store = Artefacts(url, tmp_path / "cache")
    files = store.publish(written(tmp_path / "out"), "job/1")
    fsspec.core.url_to_fs(url)[0].pipe_file(f"{url}/job/1/a.txt", b"two")
    with pytest.raises(Unavailable):
        store.fetch("job/1", files)


def test_the_digest_of_a_set_of_files_does_not_depend_on_their_order(store: Artefacts, tmp_path: Path) -> None:
    files = store.publish(written(tmp_path / "out"), "job/1")
    assert digest_of(files) == digest_of(files[::-1])
    assert digest_of(files) != digest_of(files[:1])


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b", "x" * 600, ".", "./", "a/" + "\u00e9" * 128]
)
def test_a_path_that_could_leave_its_root_or_names_no_file_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        safe_path(path)
