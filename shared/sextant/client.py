"""The client: every call of the API as a method. `sextant.AsyncClient` has the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from sextant import _flows as flows
from sextant import _requests as requests
from sextant import _transport as transport
from sextant import reproducing
from sextant._exchange import Done, Effect, Fetch, Flow, Outcome, Policy, Send, advance, exchange
from sextant._flows import Progress
from sextant._following import Following
from sextant._packing import open_source
from sextant._requests import Call, JobLike, VersionKind
from sextant._specs import SpecLike
from sextant.answers import LogView, Prediction, Pulled, StreamEvent
from sextant.profile import resolve
from sextant.reproducing import Comparison
from sextant_shared.contracts.views import (
    AuditView,
    EndpointView,
    JobView,
    KeyView,
    LineageView,
    NodeView,
    Page,
    SubmittedView,
    UploadView,
    ValidationView,
    VersionView,
    WhyView,
)

T = TypeVar("T")


class Client:
    """Talks to a Sextant server. Without arguments: SEXTANT_URL and SEXTANT_API_KEY, else the local stack.

    Calls that fail on the way, or that the server puts off (429, 503), are sent again up to `retries` times, with the
    same Idempotency-Key, so that nothing takes effect twice. Methods raise the errors of `sextant.errors`.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, retries: int = 5) -> None:
        self.profile = resolve(url, key)
        self._policy = Policy(self.profile.url, retries)
        self._http = httpx.Client(**transport.settings(self.profile))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- jobs
    def submit(self, spec: SpecLike, key: str | None = None, *, code: str | Path | None = None) -> SubmittedView:
        """Submit a spec: an object, a mapping, or the path of a YAML or JSON file.

        `code` is a directory of one's own code, which is uploaded for what runs it.
        """
        return self._run(flows.submit(spec, key, code, self._policy))

    def submit_many(self, specs: Iterable[SpecLike], key: str | None = None) -> list[SubmittedView]:
        """Submit up to 1000 specs in one request."""
        return self._call(requests.submit_many(specs, key)).items

    def validate(self, spec: SpecLike) -> ValidationView:
        """Check a spec on the server; nothing is changed."""
        return self._call(requests.validate(spec))

    def job(self, job: JobLike) -> JobView:
        """A job as it is now, with the jobs that it made."""
        return self._call(requests.job(job))

    def jobs(
        self,
        kind: str | None = None,
        state: str | None = None,
        name: str | None = None,
        parent: JobLike | None = None,
        root: JobLike | None = None,
        top: bool = False,
    ) -> Iterator[JobView]:
        """Jobs, the newest first; `top` leaves out those that other jobs made."""
        return self._pages(requests.jobs(kind, state, name, parent, root, top))

    def events(self, job: JobLike) -> Iterator[AuditView]:
        """A job's history."""
        return self._pages(requests.events(job))

    def logs(self, job: JobLike, tail: int | None = None) -> list[LogView]:
        """What a job and those below it have written; the last `tail` lines of each."""
        return self._call(requests.logs(job, tail)).items

    def stream(self, job: JobLike) -> Iterator[StreamEvent]:
        """Live events until the job has ended; connects again by itself, and then tells the states anew."""
        path, following = requests.stream_path(job), Following(self._policy)
        while not following.ended:
            try:
                with self._http.stream("GET", path, timeout=transport.STREAM_TIMEOUT) as response:
                    if response.status_code == 200:
                        following.connected()
                        for line in response.iter_lines():
                            if event := following.feed(line):
                                yield event
                            if following.ended:
                                return
                    else:
                        response.read()
                        following.refused(transport.answer(response))
            except httpx.TransportError as error:
                following.broke(transport.reason(error))
            time.sleep(following.pause())

    def wait(self, job: JobLike, timeout: float | None = None, *, check: bool = True) -> JobView:
        """Wait for the end of a job. Raises TimedOut, and JobFailed unless `check` is False."""
        return self._run(flows.wait(job, timeout, check, self._policy))

    def reproduce(self, job: JobLike, timeout: float | None = None) -> list[Comparison]:
        """Run a job, or the steps of a pipeline, again from what was recorded, and compare what came out.

        Data preparation, training and export can be. Raises BadInput where nothing of it can, and TimedOut.
        """
        found = reproducing.sources(self.job(job))
        return [self._run(reproducing.reproduce(one, timeout, self._policy)) for one in found]

    def cancel(self, job: JobLike, reason: str = "") -> JobView:
        """End a job, in whatever state it is."""
        return self._call(requests.cancel(job, reason))

    def pause(self, job: JobLike) -> JobView:
        """Stop a job, at a checkpoint where it has them, until it is resumed."""
        return self._call(requests.command(job, "pause"))

    def resume(self, job: JobLike) -> JobView:
        """Let a paused job go on."""
        return self._call(requests.command(job, "resume"))

    def retry(self, job: JobLike) -> JobView:
        """Queue a quarantined job again, or run the spec of a failed or cancelled one as a new job."""
        return self._call(requests.command(job, "retry"))

    def why(self, job: JobLike) -> WhyView:
        """Why a job does not run at this moment."""
        return self._call(requests.why(job))

    def lineage(self, job: JobLike) -> LineageView:
        """All that a job's outputs were made from."""
        return self._call(requests.lineage(job))

    # --- data and models
    def datasets(self, name: str | None = None) -> Iterator[VersionView]:
        """Dataset versions, the newest first."""
        return self._pages(requests.versions("dataset", name))

    def models(self, name: str | None = None) -> Iterator[VersionView]:
        """Model versions, the newest first."""
        return self._pages(requests.versions("model", name))

    def dataset(self, reference: str) -> VersionView:
        """The newest version of a dataset, or NAME@VERSION."""
        return self._call(requests.version("dataset", reference))

    def model(self, reference: str) -> VersionView:
        """The newest version of a model, or NAME@VERSION."""
        return self._call(requests.version("model", reference))

    def push(self, path: str | Path, progress: Progress | None = None) -> UploadView:
        """Upload a file, or a directory as a tar; name its `uri` as the source of a prepare job."""
        return self._run(flows.push(open_source(path), progress, self._policy))

    def pull(
        self,
        reference: str,
        directory: str | Path | None = None,
        *,
        kind: VersionKind = "model",
        progress: Progress | None = None,
    ) -> Pulled:
        """Download a version's files into a directory (NAME-VERSION by default); cut off, it goes on next time."""
        return self._run(flows.pull(kind, reference, directory, progress, self._policy))

    # --- serving
    def endpoints(self) -> Iterator[EndpointView]:
        """The endpoints."""
        return self._pages(requests.endpoints())

    def endpoint(self, name: str) -> EndpointView:
        """One endpoint."""
        return self._call(requests.endpoint(name))

    def delete_endpoint(self, name: str) -> EndpointView:
        """Take an endpoint down."""
        return self._call(requests.delete_endpoint(name))

    def predict(self, endpoint: str, inputs: Any) -> Prediction:
        """Infer: {name: nested lists}, the nested lists of the only input, or the protocol's own tensors."""
        return self._run(flows.predict(endpoint, inputs, self._policy))

    # --- operations
    def nodes(self) -> Iterator[NodeView]:
        """The trainer nodes."""
        return self._pages(requests.nodes())

    def audit(self, subject: JobLike | None = None) -> Iterator[AuditView]:
        """Rows of the audit log."""
        return self._pages(requests.audit(subject))

    def export_audit(self, sink: Callable[[bytes], object], job: JobLike | None = None) -> None:
        """Hand the audit log to `sink`, as JSON lines; with a job, of other rows only what its check needs."""
        self._run(flows.download(requests.audit_log(job), sink, self._policy))

    def audit_checkpoints(self, after: int = 0) -> list[str]:
        """The notary's signed checkpoints over more than `after` rows, at most 1000, the smallest first."""
        return (self._call(requests.checkpoints(after))).items

    def expire_audit(self, before: datetime) -> int:
        """Take the rows of jobs that ended before a moment, 30 days ago or more, out of the log; how many they were."""
        return (self._call(requests.expire_audit(before))).rows

    def keys(self) -> Iterator[KeyView]:
        """The API keys, without their secrets."""
        return self._pages(requests.keys())

    def create_key(
        self, name: str, scopes: Iterable[str], expires_in_days: int | None = None, tenant: str | None = None
    ) -> KeyView:
        """Make an API key; only this answer holds its secret. For another `tenant`: the operator's keys alone."""
        return self._call(requests.create_key(name, scopes, expires_in_days, tenant))

    def rotate_key(self, key: JobLike, overlap_s: int = 0) -> KeyView:
        """A new API key in the place of one, which works for `overlap_s` more; only this answer holds its secret."""
        return self._call(requests.rotate_key(key, overlap_s))

    def revoke_key(self, key: JobLike) -> KeyView:
        """Revoke an API key, by its id."""
        return self._call(requests.revoke_key(key))

    def server_version(self) -> str:
        """The server's version."""
        return self._call(requests.server_version()).version

    # --- carrying out
    def _call(self, call: Call[T]) -> T:
        return self._run(exchange(call, self._policy))

    def _pages(self, call: Call[Page[T]]) -> Iterator[T]:
        page = self._call(call)
        yield from page.items
        while page.next is not None:
            page = self._call(call.at(page.next))
            yield from page.items

    def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        try:
            while not isinstance(step := advance(flow, outcome), Done):
                outcome = self._perform(step)
            return step.result
        finally:
            flow.close()  # an interrupted transfer lets go of its file

    def _perform(self, effect: Effect) -> Outcome:
        try:
            if isinstance(effect, Send):
                return transport.answer(self._http.request(**transport.request(effect)))
            if isinstance(effect, Fetch):
                return self._fetch(effect)
        except httpx.TransportError as error:
            return transport.broken(error)
        time.sleep(effect.seconds)
        return None

    def _fetch(self, effect: Fetch) -> Outcome:
        headers = transport.fetch_headers(effect)
        with self._http.stream("GET", effect.path, headers=headers) as response:
            if not transport.goes_to_sink(response, effect.offset):
                if response.status_code >= 400:
                    response.read()
                    return transport.answer(response)
                return transport.head(response)
            for chunk in response.iter_bytes(transport.CHUNK):
                effect.sink(chunk)
            return transport.head(response)
