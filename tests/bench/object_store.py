"""An S3-compatible object store: SeaweedFS from its wheel, in a directory of its own, with a bucket and random keys."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

BUCKET = "artefacts"
START_TIMEOUT_S = 60.0


@contextmanager
def object_store(directory: Path, address: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """Run the store; the environment that a client of it needs."""
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    who = {"accessKey": key, "secretKey": secret}
    identities = [{"name": "sextant", "credentials": [who], "actions": ["Admin", "Read", "Write", "List"]}]
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    ports = _free_ports(address, 4)
    environment = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL_S3": f"http://{address}:{ports[0]}",
    }
    # Its sockets lie in the directory for temporary files, under names that another store, or a dead one, may have.
    with (directory / "weed.log").open("wb") as output, tempfile.TemporaryDirectory(prefix="s3-") as sockets:
        command, own = _command(directory, config, address, ports), {**os.environ, "TMPDIR": sockets}
        process = subprocess.Popen(command, env=own, stdout=output, stderr=output)
        try:
            _make_bucket(environment, process, directory / "weed.log")
            yield environment
        finally:
            # It would take 25 s to leave by itself, and nothing of it is kept.
            process.kill()
            process.wait()


def _command(directory: Path, config: Path, address: str, ports: list[int]) -> list[str]:
    names = ("s3", "master", "volume", "filer")
    numbers = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=True)]
    where = [f"-dir={directory}", f"-ip={address}", f"-ip.bind={address}", f"-s3.config={config}", "-s3.iam=false"]
    weed = Path(sys.executable).parent / "weed"
    return [str(weed), "server", "-s3", *where, *numbers, "-master.volumeSizeLimitMB=64"]


def _make_bucket(environment: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    options = {
        "key": environment["AWS_ACCESS_KEY_ID"],
        "secret": environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": environment["AWS_ENDPOINT_URL_S3"],
    }
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            fsspec.filesystem("s3", skip_instance_cache=True, **options).mkdir(BUCKET)
            return
        except Exception:  # noqa: BLE001
            # Whatever the client raises until the store is up.
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the object store did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)


def _free_ports(address: str, count: int) -> list[int]:
    """Ports that are free together with those 10,000 above, which the store takes for its inner protocol; all below
    those from which the system takes one for each connection.
    """
    found: list[int] = []
    for port in range(19_100, 22_700, 7):
        if all(_is_free(address, number) for number in (port, port + 10_000)):
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no free ports for the object store")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
