"""The models that are served now: a new version is tried before it takes over, the old one answers what it has."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.batcher import Batcher, Tensors
from sextant_inference.runtime.session import Session
from sextant_shared.errors import NotFound, Unavailable

Key = tuple[str, str]
"""Tenant and endpoint: two tenants may give theirs the same name."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model version to serve under an endpoint's name."""

    tenant: str
    endpoint: str
    generation: int
    version: int
    directory: Path
    max_batch_size: int
    max_wait_ms: float

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.tenant, self.endpoint


@dataclass(slots=True)
class Served:
    """A model version that answers."""

    wanted: Wanted
    session: Session
    batcher: Batcher


class Models:
    """Served models by tenant and endpoint. All changes come from one task."""

    def __init__(self, threads: int, metrics: InferenceMetrics) -> None:
        self._threads = threads
        self._metrics = metrics
        self._served: dict[Key, Served] = {}
        self.settled = False
        """Whether everything that should be served is: until then nobody can be told that there is no such model."""
        # One batch at a time a model keeps latency predictable; several models share these threads.
        self._executor = ThreadPoolExecutor(max(2, threads), thread_name_prefix="infer")
        self._draining: set[asyncio.Task[None]] = set()

    def get(self, tenant: str, name: str, version: str | None = None) -> Served:
        """The model behind a tenant's endpoint. Raises NotFound, or Unavailable while endpoints are being loaded."""
        served = self._served.get((tenant, name))
        if served is None and not self.settled:
            raise Unavailable("endpoints are being loaded")
        if served is None or (version is not None and version != str(served.wanted.version)):
            raise NotFound(f"no model {name!r}" + (f" version {version!r}" if version else "") + " is served")
        return served

    def generations(self) -> dict[Key, int]:
        """What is served, by tenant and endpoint."""
        return {key: served.wanted.generation for key, served in self._served.items()}

    async def load(self, wanted: Wanted) -> None:
        """Load, warm, then swap in one step. Raises InvalidInput, and leaves what is served as it is."""
        session = await asyncio.to_thread(Session, wanted.directory, self._threads)
        batcher = Batcher(
            session.run,
            self._executor,
            max_rows=wanted.max_batch_size,
            max_wait_s=wanted.max_wait_ms / 1000.0,
            observe=self._metrics.observer(wanted.endpoint),
        )
        old = self._served.get(wanted.key)
        self._served[wanted.key] = Served(wanted, session, batcher)
        if old:
            self._drain(old)

    def unload(self, tenant: str, name: str) -> None:
        """Serve it no more; what was asked before is still answered."""
        if old := self._served.pop((tenant, name), None):
            self._drain(old)

    async def infer(self, served: Served, tensors: Tensors) -> list[Any]:
        """Outputs for a request's rows, through the model's batcher."""
        return await served.batcher.infer(tensors)

    def _drain(self, old: Served) -> None:
        task = asyncio.create_task(old.batcher.drained())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
