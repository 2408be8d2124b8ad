"""What both clients need of httpx: how it is set up, a request's arguments, and what a failure means."""

from __future__ import annotations

from typing import Any

import httpx

from sextant._exchange import Answer, Broken, Fetch, Send
from sextant.profile import Profile

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# The server says that it is there every two seconds.
STREAM_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
CHUNK = 2**20
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def settings(profile: Profile) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient."""
    headers = {"Accept": "application/json", "User-Agent": "sextant-client"}
    if profile.key:
        headers["Authorization"] = f"Bearer {profile.key}"
    # A proxy of the environment cannot reach this machine's own loopback.
    trust_env = not profile.is_loopback
    return {"base_url": profile.url, "headers": headers, "timeout": TIMEOUT, "trust_env": trust_env}


def request(effect: Send) -> dict[str, Any]:
    """Arguments of `client.request`."""
    call = effect.call
    timeout = {"timeout": httpx.Timeout(call.timeout_s, connect=5.0)} if call.timeout_s else {}
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query) or None,
        "headers": dict(call.headers),
        "content": call.content,
        **timeout,
    }


def fetch_headers(effect: Fetch) -> dict[str, str]:
    """Headers of a download: the bytes as they are, from the offset on."""
    ranged = {"Range": f"bytes={effect.offset}-"} if effect.offset else {}
    return {"Accept": "*/*", "Accept-Encoding": "identity", **ranged}


def answer(response: httpx.Response) -> Answer:
    """The response, read to its end."""
    return Answer(response.status_code, dict(response.headers), response.content)


def head(response: httpx.Response) -> Answer:
    """A response whose body went elsewhere."""
    return Answer(response.status_code, dict(response.headers), b"")


def broken(error: httpx.TransportError) -> Broken:
    """A failure of the connection."""
    return Broken(reason(error), isinstance(error, UNSENT))


def reason(error: httpx.TransportError) -> str:
    """Why, in words."""
    return str(error) or type(error).__name__


def goes_to_sink(response: httpx.Response, offset: int) -> bool:
    """Whether the body is what was asked for: from the offset on."""
    return response.status_code == 206 or (response.status_code == 200 and offset == 0)
