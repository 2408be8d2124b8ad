"""The client for asyncio: the methods of `sextant.Client`, to be awaited or iterated with `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
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


class AsyncClient:
    """Talks to a Sextant server from a coroutine; see `sextant.Client`. Files are read and hashed in a thread."""

    def __init__(self, url: str | None = None, key: str | None = None, *, retries: int = 5) -> None:
        self.profile = resolve(url, key)
        self._policy = Policy(self.profile.url, retries)
        self._http = httpx.AsyncClient(**transport.settings(self.profile))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- jobs
    async def submit(self, spec: SpecLike, key: str | None = None, *, code: str | Path | None = None) -> SubmittedView:
        """Submit a spec: an object, a mapping, or the path of a YAML or JSON file.

        `code` is a directory of one's own code, which is uploaded for what runs it.
        """
        return await self._run(flows.submit(spec, key, code, self._policy))

    async def submit_many(self, specs: Iterable[SpecLike], key: str | None = None) -> list[SubmittedView]:
        """Submit up to 1000 specs in one request."""
        return (await self._call(requests.submit_many(specs, key))).items

    async def validate(self, spec: SpecLike) -> ValidationView:
        """Check a spec on the server; nothing is changed."""
        return await self._call(requests.validate(spec))

    async def job(self, job: JobLike) -> JobView:
        """A job as it is now, with the jobs that it made."""
        return await self._call(requests.job(job))

    def jobs(
        self,
        kind: str | None = None,
        state: str | None = None,
        name: str | None = None,
        parent: JobLike | None = None,
        root: JobLike | None = None,
        top: bool = False,
    ) -> AsyncIterator[JobView]:
        """Jobs, the newest first; `top` leaves out those that other jobs made."""
        return self._pages(requests.jobs(kind, state, name, parent, root, top))

    def events(self, job: JobLike) -> AsyncIterator[AuditView]:
        """A job's history."""
        return self._pages(requests.events(job))

    async def logs(self, job: JobLike, tail: int | None = None) -> list[LogView]:
        """What a job and those below it have written; the last `tail` lines of each."""
        return (await self._call(requests.logs(job, tail))).items

    async def stream(self, job: JobLike) -> AsyncIterator[StreamEvent]:
        """Live events until the job has ended; connects again by itself, and then tells the states anew."""
        path, following = requests.stream_path(job), Following(self._policy)
        while not following.ended:
            try:
                async with self._http.stream("GET", path, timeout=transport.STREAM_TIMEOUT) as response:
                    if response.status_code == 200:
                        following.connected()
                        async for line in response.aiter_lines():
                            if event := following.feed(line):
                                yield event
                            if following.ended:
                                return
                    else:
                        await response.aread()
                        following.refused(transport.answer(response))
            except httpx.TransportError as error:
                following.broke(transport.reason(error))
            await asyncio.sleep(following.pause())

    async def wait(self, job: JobLike, timeout: float | None = None, *, check: bool = True) -> JobView:
        """Wait for the end of a job. Raises TimedOut, and JobFailed unless `check` is False."""
        return await self._run(flows.wait(job, timeout, check, self._policy))

    async def reproduce(self, job: JobLike, timeout: float | None = None) -> list[Comparison]:
        """Run a job, or the steps of a pipeline, again from what was recorded, and compare what came out.

        Data preparation, training and export can be. Raises BadInput where nothing of it can, and TimedOut.
        """
        found = reproducing.sources(await self.job(job))
        return [await self._run(reproducing.reproduce(one, timeout, self._policy)) for one in found]

    async def cancel(self, job: JobLike, reason: str = "") -> JobView:
        """End a job, in whatever state it is."""
        return await self._call(requests.cancel(job, reason))

    async def pause(self, job: JobLike) -> JobView:
        """Stop a job, at a checkpoint where it has them, until it is resumed."""
        return await self._call(requests.command(job, "pause"))

    async def resume(self, job: JobLike) -> JobView:
        """Let a paused job go on."""
        return await self._call(requests.command(job, "resume"))

    async def retry(self, job: JobLike) -> JobView:
        """Queue a quarantined job again, or run the spec of a failed or cancelled one as a new job."""
        return await self._call(requests.command(job, "retry"))

    async def why(self, job: JobLike) -> WhyView:
        """Why a job does not run at this moment."""
        return await self._call(requests.why(job))

    async def lineage(self, job: JobLike) -> LineageView:
        """All that a job's outputs were made from."""
        return await self._call(requests.lineage(job))

    # --- data and models
    def datasets(self, name: str | None = None) -> AsyncIterator[VersionView]:
        """Dataset versions, the newest first."""
        return self._pages(requests.versions("dataset", name))

    def models(self, name: str | None = None) -> AsyncIterator[VersionView]:
        """Model versions, the newest first."""
        return self._pages(requests.versions("model", name))

    async def dataset(self, reference: str) -> VersionView:
        """The newest version of a dataset, or NAME@VERSION."""
        return await self._call(requests.version("dataset", reference))

    async def model(self, reference: str) -> VersionView:
        """The newest version of a model, or NAME@VERSION."""
        return await self._call(requests.version("model", reference))

    async def push(self, path: str | Path, progress: Progress | None = None) -> UploadView:
        """Upload a file, or a directory as a tar; name its `uri` as the source of a prepare job."""
        return await self._run(flows.push(open_source(path), progress, self._policy))

    async def pull(
        self,
        reference: str,
        directory: str | Path | None = None,
        *,
        kind: VersionKind = "model",
        progress: Progress | None = None,
    ) -> Pulled:
        """Download a version's files into a directory (NAME-VERSION by default); cut off, it goes on next time."""
        return await self._run(flows.pull(kind, reference, directory, progress, self._policy))

    # --- serving
    def endpoints(self) -> AsyncIterator[EndpointView]:
        """The endpoints."""
        return self._pages(requests.endpoints())

    async def endpoint(self, name: str) -> EndpointView:
        """One endpoint."""
        return await self._call(requests.endpoint(name))

    async def delete_endpoint(self, name: str) -> EndpointView:
        """Take an endpoint down."""
        return await self._call(requests.delete_endpoint(name))

    async def predict(self, endpoint: str, inputs: Any) -> Prediction:
        """Infer: {name: nested lists}, the nested lists of the only input, or the protocol's own tensors."""
        return await self._run(flows.predict(endpoint, inputs, self._policy))

    # --- operations
    def nodes(self) -> AsyncIterator[NodeView]:
        """The trainer nodes."""
        return self._pages(requests.nodes())

    def audit(self, subject: JobLike | None = None) -> AsyncIterator[AuditView]:
        """Rows of the audit log."""
        return self._pages(requests.audit(subject))

    async def export_audit(self, sink: Callable[[bytes], object], job: JobLike | None = None) -> None:
        """Hand the audit log to `sink`, as JSON lines; with a job, of other rows only what its check needs."""
        await self._run(flows.download(requests.audit_log(job), sink, self._policy))

    async def audit_checkpoints(self, after: int = 0) -> list[str]:
        """The notary's signed checkpoints over more than `after` rows, at most 1000, the smallest first."""
        return (await self._call(requests.checkpoints(after))).items

    async def expire_audit(self, before: datetime) -> int:
        """Take the rows of jobs that ended before a moment, 30 days ago or more, out of the log; how many they were."""
        return (await self._call(requests.expire_audit(before))).rows

    def keys(self) -> AsyncIterator[KeyView]:
        """The API keys, without their secrets."""
        return self._pages(requests.keys())

    async def create_key(
        self, name: str, scopes: Iterable[str], expires_in_days: int | None = None, tenant: str | None = None
    ) -> KeyView:
        """Make an API key; only this answer holds its secret. For another `tenant`: the operator's keys alone."""
        return await self._call(requests.create_key(name, scopes, expires_in_days, tenant))

    async def rotate_key(self, key: JobLike, overlap_s: int = 0) -> KeyView:
        """A new API key in the place of one, which works for `overlap_s` more; only this answer holds its secret."""
        return await self._call(requests.rotate_key(key, overlap_s))

    async def revoke_key(self, key: JobLike) -> KeyView:
        """Revoke an API key, by its id."""
        return await self._call(requests.revoke_key(key))

    async def server_version(self) -> str:
        """The server's version."""
        return (await self._call(requests.server_version())).version

    # --- carrying out
    async def _call(self, call: Call[T]) -> T:
        return await self._run(exchange(call, self._policy))

    async def _pages(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        page = await self._call(call)
        while True:
            for item in page.items:
                yield item
            if page.next is None:
                return
            page = await self._call(call.at(page.next))

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        try:
            while not isinstance(step := await asyncio.to_thread(advance, flow, outcome), Done):
                outcome = await self._perform(step)
            return step.result
        finally:
            flow.close()  # an interrupted transfer lets go of its file

    async def _perform(self, effect: Effect) -> Outcome:
        try:
            if isinstance(effect, Send):
                return transport.answer(await self._http.request(**transport.request(effect)))
            if isinstance(effect, Fetch):
                return await self._fetch(effect)
        except httpx.TransportError as error:
            return transport.broken(error)
        await asyncio.sleep(effect.seconds)
        return None

    async def _fetch(self, effect: Fetch) -> Outcome:
        headers = transport.fetch_headers(effect)
        async with self._http.stream("GET", effect.path, headers=headers) as response:
            if not transport.goes_to_sink(response, effect.offset):
                if response.status_code >= 400:
                    await response.aread()
                    return transport.answer(response)
                return transport.head(response)
            async for chunk in response.aiter_bytes(transport.CHUNK):
                await asyncio.to_thread(effect.sink, chunk)
            return transport.head(response)
