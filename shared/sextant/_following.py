"""Server-sent events (WHATWG HTML, 9.2) -> typed events, and when to connect again. No I/O."""

from __future__ import annotations

import json
import time

from pydantic import ValidationError

from sextant._exchange import BUSY, Answer, Policy, error_of
from sextant.answers import EVENTS, EndEvent, StreamEvent
from sextant.errors import ClientError, NotReachable

PATIENCE_S = 60.0
MAX_EVENT = 2**20


class Following:
    """One followed job, over as many connections as it takes. Gives up when none has held for PATIENCE_S."""

    def __init__(self, policy: Policy, patience_s: float = PATIENCE_S) -> None:
        self.ended = False
        self._policy = policy
        self._patience_s = patience_s
        self._failures = 0
        self._alive_at: float | None = None
        self._reason = ""
        self._retry_after: str | None = None
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def connected(self) -> None:
        """A connection was made; half an event of the last one is dropped."""
        self._reason, self._retry_after = "the connection was closed", None
        self._begin_event()

    def refused(self, answer: Answer) -> None:
        """The server did not begin a stream. Raises ApiError where trying again does not help."""
        if answer.status not in BUSY:
            raise error_of(answer)
        self._reason, self._retry_after = f"HTTP {answer.status}", answer.headers.get("retry-after")

    def broke(self, reason: str) -> None:
        """The connection failed."""
        self._reason, self._retry_after = reason, None

    def _begin_event(self) -> None:
        self._name, self._data, self._size = "", [], 0

    def feed(self, line: str) -> StreamEvent | None:
        """Take a line; the event that it completes, if any."""
        self._failures = 0
        self._alive_at = time.monotonic()
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._name = value
            elif field == "data":
                self._size += len(value)
                if self._size > MAX_EVENT:
                    raise ClientError(f"the server sent an event of more than {MAX_EVENT} characters")
                self._data.append(value)
            return None
        name, data = self._name, "\n".join(self._data)
        self._begin_event()
        return self._event(name, data)

    def _event(self, name: str, data: str) -> StreamEvent | None:
        kind = EVENTS.get(name)
        if kind is None or not data:
            return None  # a newer server's event
        try:
            event = kind.model_validate(json.loads(data))
        except (ValidationError, ValueError):
            return None  # a hint that is not understood; the state is in the store
        self.ended = isinstance(event, EndEvent)
        return event

    def pause(self) -> float:
        """Seconds to wait before the next connection. Raises NotReachable when patience is at its end."""
        self._failures += 1
        if self._alive_at is None:
            hopeless = self._failures > self._policy.retries
        else:
            hopeless = time.monotonic() - self._alive_at > self._patience_s
        if hopeless:
            raise NotReachable(self._policy.url, self._reason)
        return self._policy.wait(self._failures, self._retry_after).seconds
