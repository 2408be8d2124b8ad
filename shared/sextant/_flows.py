"""Operations of several calls, as flows: wait, push, pull, predict. No I/O with the network here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from sextant import _requests as requests
from sextant._exchange import BUSY, Answer, Broken, Fetch, Flow, Outcome, Policy, Sleep, error_of, exchange
from sextant._landing import Landing, Wanted
from sextant._packing import Source, open_code
from sextant._requests import JobLike, VersionKind
from sextant._specs import SpecLike, places_of_code, plain, with_code
from sextant._tensors import as_tensors, is_complete
from sextant.answers import Prediction, Pulled
from sextant.errors import BadInput, ClientError, Conflict, JobFailed, NotFound, NotReachable, TimedOut, TransferFailed
from sextant_shared.contracts.views import JobView, SubmittedView, UploadView

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED", "QUARANTINED"})
PIECE = 8 * 2**20
MAX_STALLS = 5
Progress = Callable[[str, int, int], None]
"""Told (file, bytes done, bytes in all) as a transfer goes on."""


def wait(which: JobLike, timeout: float | None, check: bool, policy: Policy) -> Flow[JobView]:
    """Look until the job has ended. Raises TimedOut, and JobFailed where `check` is set."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.05
    while True:
        job = yield from exchange(requests.job(which), policy)
        if job.state in ENDED:
            if check and job.state != "SUCCEEDED":
                raise JobFailed(job)
            return job
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimedOut(f"{job.kind} job {job.name} ({job.id}) is {job.state} after {timeout:g} s")
        yield Sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, 1.0)


def submit(spec: SpecLike, key: str | None, code: str | Path | None, policy: Policy) -> Flow[SubmittedView]:
    """Accept a job; where `code` is given, after it was uploaded. Raises BadInput where nothing in the spec runs it."""
    content = plain(spec)
    if code is not None:
        fields = places_of_code(content)
        view = yield from push(open_code(code), None, policy)
        content = with_code(content, fields, view.uri)
    return (yield from exchange(requests.submit(content, key), policy))


def push(source: Source, progress: Progress | None, policy: Policy) -> Flow[UploadView]:
    """Upload; goes on where an earlier push of the same bytes was cut off."""
    view = yield from _announce(source, policy)
    stalls = 0
    while not view.completed:
        if progress:
            progress(source.name, view.received, view.size)
        before = view.received
        content = source.read(before, PIECE)
        try:
            view = yield from exchange(requests.piece(view.id, before, content), policy)
        except (NotReachable, Conflict):
            stalls += 1
            if stalls > MAX_STALLS:
                raise
            yield policy.wait(stalls)
            view = yield from exchange(requests.upload(view.id), policy)
        if view.received > before:
            stalls = 0
    if progress:
        progress(source.name, view.size, view.size)
    return view


def _announce(source: Source, policy: Policy) -> Flow[UploadView]:
    # The key follows from the bytes: the same push again is answered with the upload that it began.
    sha256 = source.sha256()
    name = hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()
    key = f"push/{sha256}/{name[:16]}"
    announced = yield from exchange(requests.new_upload(source.name, source.size, sha256, key), policy)
    try:
        return (yield from exchange(requests.upload(announced.id), policy))
    except NotFound:
        return (yield from exchange(requests.new_upload(source.name, source.size, sha256, str(uuid4())), policy))


def pull(
    kind: VersionKind, reference: str, directory: str | Path | None, progress: Progress | None, policy: Policy
) -> Flow[Pulled]:
    """Download a version's files; goes on where an earlier pull was cut off. Raises TransferFailed, BadInput."""
    version = yield from exchange(requests.version(kind, reference), policy)
    root = Path(directory).expanduser() if directory is not None else Path(f"{version.name}-{version.version}")
    # The version is pinned, so that a newer one registered in the meantime does not mix its files in.
    pinned = f"{version.name}@{version.version}"
    landings = [Landing(root, Wanted.of(file)) for file in version.files]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{root} cannot be made: {error.strerror or error}") from None
    for landing in landings:
        path = requests.file_path(kind, pinned, landing.wanted.path)
        try:
            yield from _land(landing, path, progress, policy)
        finally:
            landing.close()
    return Pulled(version, root, tuple(landing.target for landing in landings))


def _land(landing: Landing, path: str, progress: Progress | None, policy: Policy) -> Flow[None]:
    if landing.is_there():
        return
    for _ in range(2):  # what an earlier pull left behind may be of no use
        yield from _fill(landing, path, progress, policy)
        if landing.finish():
            return
    raise TransferFailed(
        f"{landing.wanted.path}: the bytes that came do not have the promised hash; nothing of it was kept"
    )


def _fill(landing: Landing, path: str, progress: Progress | None, policy: Policy) -> Flow[None]:
    wanted, stalls = landing.wanted, 0

    def sink(chunk: bytes) -> None:
        done = landing.add(chunk)
        if progress:
            progress(wanted.path, done, wanted.size)

    while (offset := landing.received()) < wanted.size:
        outcome = yield Fetch(path, offset, sink)
        trouble = _trouble(outcome, wanted, policy)
        if offset and isinstance(outcome, Answer) and outcome.status == 200:
            landing.discard()  # something on the way does not know ranges
        received = landing.received()
        if received == wanted.size:
            return
        stalls = 0 if received > offset else stalls + 1
        if stalls > policy.retries:
            raise trouble
        yield policy.wait(stalls + 1)


def _trouble(outcome: Outcome, wanted: Wanted, policy: Policy) -> ClientError:
    """Why a download that is not whole is tried again. Raises ApiError where that does not help."""
    if isinstance(outcome, Broken):
        return NotReachable(policy.url, outcome.reason)
    if isinstance(outcome, Answer) and outcome.status >= 400:
        error = error_of(outcome)
        if outcome.status not in BUSY:
            raise error
        return error
    return TransferFailed(f"{wanted.path}: the server ends the file before its {wanted.size} bytes are there")


def download(path: str, sink: Callable[[bytes], object], policy: Policy) -> Flow[None]:
    """Bytes that are made as they are read, once: what was cut off cannot go on. Raises ApiError, NotReachable."""
    outcome = yield Fetch(path, 0, sink)
    if isinstance(outcome, Answer) and outcome.status >= 400:
        raise error_of(outcome)
    if isinstance(outcome, Broken):
        raise NotReachable(policy.url, outcome.reason)


def predict(endpoint: str, inputs: Any, policy: Policy) -> Flow[Prediction]:
    """One inference; asks the endpoint for names and types where the inputs do not say them."""
    if isinstance(inputs, Mapping) and isinstance(inputs.get("inputs"), list):
        inputs = inputs["inputs"]
    if not is_complete(inputs):
        model = yield from exchange(requests.endpoint_model(endpoint), policy)
        inputs = as_tensors(inputs, model.inputs)
    return (yield from exchange(requests.infer(endpoint, list(inputs)), policy))
