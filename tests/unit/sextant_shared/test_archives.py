"""Archives that nobody should trust."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from sextant_shared import archives
from sextant_shared.errors import InvalidInput


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    """A zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], *odd: tarfile.TarInfo) -> Path:
    """A tar archive, with members that are no regular files at its end."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in odd:
            packed.addfile(info)
    return path


def packed_as(directory: Path, name: str, files: dict[str, bytes]) -> Path:
    """An archive of the kind that its name says."""
    return zipped(directory / name, files) if name.endswith("zip") else tarred(directory / name, files)


KINDS = pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])


@KINDS
def test_files_are_unpacked_with_their_folders(tmp_path: Path, name: str) -> None:
    files = {"cat/1.txt": b"miaow", "dog/2.txt": b"", "top.txt": bytes(70_000)}
    target = archives.unpack(packed_as(tmp_path, name, files), tmp_path / "out")
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == files


@pytest.mark.parametrize(("name", "expected"), [("A.ZIP", True), ("a.tgz", True), ("a.csv", False), ("zip", False)])
def test_an_archive_is_known_by_its_name(name: str, expected: bool) -> None:
    assert archives.is_archive(Path(name)) is expected


@pytest.mark.parametrize("inside", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\..\\out.txt"])
@KINDS
def test_a_path_that_leaves_the_folder_is_refused_and_writes_nothing(tmp_path: Path, name: str, inside: str) -> None:
    archive = packed_as(tmp_path, name, {inside: b"gotcha"})
    with pytest.raises(InvalidInput):
        archives.unpack(archive, tmp_path / "deep" / "out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InvalidInput, match="'odd'"):
        archives.unpack(tarred(tmp_path / "a.tar", {"a.txt": b"a"}, info), tmp_path / "out")
    assert not (tmp_path / "out" / "odd").exists()


def test_a_file_is_not_written_through_a_link_that_came_before_it(tmp_path: Path) -> None:
    link, behind = tarfile.TarInfo("door"), tarfile.TarInfo("door/out.txt")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    with pytest.raises(InvalidInput):
        archives.unpack(tarred(tmp_path / "a.tar", {}, link, behind), tmp_path / "out")
    assert not (tmp_path / "out.txt").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("odd")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidInput, match="link: 'odd'"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_an_archive_that_unpacks_to_far_more_than_it_is_stops_at_the_limit(tmp_path: Path, name: str) -> None:
    bomb = packed_as(tmp_path, name, {f"{i}.bin": bytes(4 << 20) for i in range(4)})
    limit = max(archives.MAX_RATIO * bomb.stat().st_size, 1 << 20)
    with pytest.raises(InvalidInput, match=f"more than {limit} bytes"):
        archives.unpack(bomb, tmp_path / "out")
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written <= limit


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    archive = zipped(tmp_path / "a.zip", {str(i): b"" for i in range(4)})
    with pytest.raises(InvalidInput, match="over 3 files"):
        archives.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("second", ["a.txt", "./a.txt"])
def test_the_same_file_twice_is_refused(tmp_path: Path, second: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for name in ("a.txt", second):
            packed.addfile(tarfile.TarInfo(name))
    with pytest.raises(InvalidInput, match="twice"):
        archives.unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_file_where_a_folder_must_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        archives.unpack(zipped(tmp_path / "a.zip", {"a": b"", "a/b": b""}), tmp_path / "out")


@KINDS
def test_an_archive_that_is_none_is_refused_with_what_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no archive, whatever its name says" * 40)
    with pytest.raises(InvalidInput) as caught:
        archives.unpack(tmp_path / name, tmp_path / "out")
    assert (caught.value.field, caught.value.accepted) == ("source", ".zip, .tar, .tar.gz, .tgz")


@KINDS
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    whole = packed_as(tmp_path, name, {f"{i}.bin": bytes(range(256)) * 40 for i in range(20)}).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput):
        archives.unpack(tmp_path / name, tmp_path / "out")


def test_a_zip_with_damaged_content_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.txt": b"text " * 1000})
    damaged = bytearray(archive.read_bytes())
    start = 30 + len("a.txt")  # the local header; compressed bytes follow
    damaged[start : start + 8] = b"\xff" * 8
    archive.write_bytes(damaged)
    with pytest.raises(InvalidInput, match="cannot be read"):
        archives.unpack(archive, tmp_path / "out")


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tgz", {"a.txt": bytes(range(256)) * 100})
    damaged = bytearray(archive.read_bytes())
    damaged[40:48] = b"\xff" * 8
    archive.write_bytes(damaged)
    with pytest.raises(InvalidInput, match="cannot be read"):
        archives.unpack(archive, tmp_path / "out")


def test_a_zip_with_a_name_that_is_not_the_utf8_it_says_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"ü.txt": b"text"})
    archive.write_bytes(archive.read_bytes().replace("ü".encode(), b"\xfc\xff"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        archives.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("member", ["b.txt", "c.txt"])
def test_a_tar_with_a_damaged_header_is_not_taken_for_one_with_fewer_files(
    tmp_path: Path, name: str, member: str
) -> None:
    plain = tarred(tmp_path / "plain.tar", {"a.txt": b"a", "b.txt": b"", "c.txt": b"c"}).read_bytes()
    damaged = plain.replace(member.encode(), b"?" * len(member))
    (tmp_path / name).write_bytes(gzip.compress(damaged) if name == "a.tgz" else damaged)
    with pytest.raises(InvalidInput, match="ends too early, or is damaged"):
        archives.unpack(tmp_path / name, tmp_path / "out")


def test_a_tar_that_was_cut_off_between_two_files_is_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar", {"a.txt": b"a", "b.txt": b"b"})
    archive.write_bytes(archive.read_bytes()[:1024])  # a header and a block of content
    with pytest.raises(InvalidInput, match="ends too early"):
        archives.unpack(archive, tmp_path / "out")


def test_two_tars_in_one_file_are_refused(tmp_path: Path) -> None:
    first, second = (tarred(tmp_path / name, {name: b"x"}).read_bytes() for name in ("1.tar", "2.tar"))
    (tmp_path / "a.tar").write_bytes(first + second)
    with pytest.raises(InvalidInput, match="cannot be read"):
        archives.unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_full_disk_is_not_the_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        archives.unpack(zipped(tmp_path / "a.zip", {"a": b"a"}), tmp_path / "out")
