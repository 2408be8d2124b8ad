"""Uploads in pieces, and paths that must not leave their root."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Api

CONTENT = bytes(range(256)) * 40


def announce(api: Api, content: bytes = CONTENT, **changes: Any) -> Any:
    """The answer to an announcement."""
    body = {"path": "a/b.csv", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
    return api.http.post("/v1/uploads", json=body)


def send(api: Api, upload: str, piece: bytes, offset: int) -> Any:
    """The answer to one piece."""
    return api.http.patch(f"/v1/uploads/{upload}", content=piece, headers={"Upload-Offset": str(offset)})


def test_a_file_that_arrives_in_pieces_is_whole_in_the_end(api: Api) -> None:
    upload = announce(api).json()["id"]
    assert send(api, upload, CONTENT[:5000], 0).json()["received"] == 5000
    assert api.http.get(f"/v1/uploads/{upload}").json()["received"] == 5000
    done = send(api, upload, CONTENT[5000:], 5000).json()
    assert done["completed"]


def test_a_piece_that_does_not_follow_is_refused_and_nothing_is_lost(api: Api) -> None:
    upload = announce(api).json()["id"]
    send(api, upload, CONTENT[:5000], 0)
    assert send(api, upload, CONTENT[:5000], 0).status_code == 409
    assert send(api, upload, CONTENT[6000:], 6000).status_code == 409
    assert send(api, upload, CONTENT[5000:] + b"more", 5000).status_code == 409
    assert send(api, upload, CONTENT[5000:], 5000).json()["completed"]


def test_bytes_with_another_hash_are_refused_and_the_upload_begins_anew(api: Api) -> None:
    upload = announce(api).json()["id"]
    assert send(api, upload, CONTENT[::-1], 0).status_code == 422
    assert api.http.get(f"/v1/uploads/{upload}").json()["received"] == 0
    assert send(api, upload, CONTENT, 0).json()["completed"]


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a\\x", "", "a\0b"])
def test_a_name_that_leaves_the_root_is_refused(api: Api, path: str) -> None:
    assert announce(api, path=path).status_code == 422


@pytest.mark.parametrize("changes", [{"size": 0}, {"size": -1}, {"size": 2**60}, {"sha256": "abc"}, {"extra": 1}])
def test_an_announcement_that_makes_no_sense_is_refused(api: Api, changes: dict[str, Any]) -> None:
    assert announce(api, **changes).status_code == 422


@pytest.mark.parametrize("path", ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd"])
def test_downloads_stay_below_the_version_that_they_name(api: Api, path: str) -> None:
    answer = api.http.get(f"/v1/models/none/files/{path}")
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of 64 kB is mounted, which needs root")
def test_a_full_disk_is_told_and_the_upload_goes_on_when_there_is_room(api: Api) -> None:
    content = bytes(200_000)
    upload = announce(api, content).json()["id"]
    place = Path(api.environment["SEXTANT_WORK_DIR"]) / "uploads" / upload
    place.mkdir(parents=True)
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        refused = send(api, upload, content, 0)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert refused.status_code == 507
    assert "disk is full" in refused.json()["detail"]
    assert str(place) not in refused.text
    assert api.http.get(f"/v1/uploads/{upload}").json()["received"] == 0
    assert send(api, upload, content, 0).json()["completed"]
