"""The memory of a training step: bytes of the tensors that are alive at once, and what the process takes.

Counting the storages that torch's operations make, from the moment they are made until they are freed, says exactly
what a plan keeps, apart for gradients and the rest; it does not see what a kernel takes and gives back within itself.
The process's resident memory sees that too, and the allocator's waste besides: the two must agree roughly.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What clear_refs takes to set the peak to what is resident now: proc(5)."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALLEST_MAPPED = 1 << 16
"""Bytes; without a fixed threshold glibc raises it up to 32 MiB, and keeps what is under it."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most bytes at one moment of a step, over what was there before it."""

    activations: int
    """All that is no gradient of a parameter: activations, their gradients, and an operation's own tensors."""
    total: int
    """With the gradients of parameters."""


class Change(NamedTuple):
    """A storage, and the bytes that it takes, or, below 0, gives back."""

    number: int
    size: int


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down when the storages that are made while it is on begin and end to live."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        """`there` lives before: parameters, buffers and inputs, which do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._there = list(there)
        self._known = {_key(tensor) for tensor in self._there}
        self._live: dict[int, Change] = {}
        self._changes: list[Change] = []
        self._gradients: set[int] = set()
        self._next = 0

    @property
    def peaks(self) -> Peaks:
        """So far. What became a gradient counts as one from its beginning."""
        others = (change for change in self._changes if change.number not in self._gradients)
        return Peaks(activations=highest(others), total=highest(self._changes))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what it has made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return out

    def set_apart(self, parameter: Tensor) -> None:
        """This parameter's gradient is one: to be called when it has been accumulated."""
        made = self._live.get(_key(parameter.grad)) if parameter.grad is not None else None
        if made is not None:
            self._gradients.add(made.number)

    def _count(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key in self._known or key in self._live:
            return
        storage = tensor.untyped_storage()
        self._next += 1
        self._live[key] = Change(self._next, storage.nbytes())
        self._changes.append(self._live[key])
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        made = self._live.pop(key)
        self._changes.append(Change(made.number, -made.size))


def highest(changes: Iterable[Change]) -> int:
    """The largest sum on the way."""
    return max(accumulate((change.size for change in changes), initial=0))


def peaks_of(step: Callable[[], object], module: nn.Module, inputs: Iterable[Tensor]) -> Peaks:
    """The peaks of one step that begins without gradients."""
    module.zero_grad(set_to_none=True)
    ledger = Ledger([*module.parameters(), *module.buffers(), *inputs])
    with _told_of_gradients(module, ledger), ledger:
        step()
    return ledger.peaks


def return_memory_at_once() -> None:
    """From now on glibc gives what tensors free back to the system, so that resident memory has none of its waste."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, SMALLEST_MAPPED)
    libc.mallopt(M_TRIM_THRESHOLD, SMALLEST_MAPPED)


def resident_peak(step: Callable[[], object]) -> int:
    """Bytes by which the process grew at most during the step."""
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text(RESET_PEAK)
    before = status_bytes(STATUS.read_text(), "VmRSS")
    step()
    return status_bytes(STATUS.read_text(), "VmHWM") - before


def status_bytes(status: str, name: str) -> int:
    """A figure of /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


@contextmanager
def _told_of_gradients(module: nn.Module, ledger: Ledger) -> Iterator[None]:
    handles = [
        parameter.register_post_accumulate_grad_hook(ledger.set_apart)  # type: ignore[no-untyped-call]
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
