"""Which server to talk to, and with which key: the only reader of the environment in this package's client."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sextant.errors import BadInput

DEFAULT_URL = "http://127.0.0.1:8700"
CLIENT_FILE = "client.json"
ROOT_HOME = Path("/var/lib/sextant")


@dataclass(frozen=True)
class Profile:
    """A server's URL and the API key for it."""

    url: str
    key: str | None

    def __repr__(self) -> str:
        return f"Profile(url={self.url!r}, key={'***' if self.key else None})"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine; such a request must not go through a proxy."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


def home(environ: Mapping[str, str] | None = None) -> Path:
    """The local stack's state directory: SEXTANT_HOME, or ~/.sextant; for root, /var/lib/sextant.

    Root runs PostgreSQL as another account, which could not come to a directory below root's own.
    """
    environ = os.environ if environ is None else environ
    if given := environ.get("SEXTANT_HOME"):
        return Path(given).expanduser()
    return ROOT_HOME if os.geteuid() == 0 else Path.home() / ".sextant"


def resolve(url: str | None = None, key: str | None = None, environ: Mapping[str, str] | None = None) -> Profile:
    """Arguments before SEXTANT_URL and SEXTANT_API_KEY before the local stack's client.json.

    The key of client.json goes to the server that it belongs to and to no other.
    """
    environ = os.environ if environ is None else environ
    local = _local(home(environ) / CLIENT_FILE)
    url = url or environ.get("SEXTANT_URL") or None
    key = key or environ.get("SEXTANT_API_KEY") or None
    chosen = _checked(url or (local.url if local else DEFAULT_URL))
    if key is None and local is not None and local.url == chosen:
        key = local.key
    if key is not None and not (key.isascii() and key.isprintable()):
        raise BadInput("the API key holds characters that no key has; it looks like sx_...", field="SEXTANT_API_KEY")
    return Profile(url=chosen, key=key)


def _local(file: Path) -> Profile | None:
    try:
        content = json.loads(file.read_text("utf-8"))
        return Profile(url=str(content["url"]).rstrip("/"), key=content.get("key"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file} is not readable as a client profile: {error!r}; `sextant up` writes it") from None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"the server's URL is {url!r}; accepted is http(s)://HOST[:PORT]", field="SEXTANT_URL")
    return url.rstrip("/")
