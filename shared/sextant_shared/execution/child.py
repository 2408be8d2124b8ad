"""The main function of a child process: open the workbench, do the work, report how it ended."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from sextant_shared.confinement.kernel import end_with_parent
from sextant_shared.errors import SextantError, TransientError, WorkInterrupted
from sextant_shared.execution.provenance import made_with
from sextant_shared.execution.workbench import Divided, Failed, Paused, Result, Workbench

Ending = Result | Divided | Paused
Work = Callable[[Workbench], Ending]


def main(directory: Path, works: Mapping[str, Work], events_fd: int | None = None) -> int:
    """Do the work of the order in `directory`; the exit status is 0 where it ended as it should."""
    die_with_parent()
    bench = Workbench.open(directory, events_fd)
    ending = run(bench, works[bench.order.kind])
    bench.finish(ending)
    return 1 if isinstance(ending, Failed) else 0


def die_with_parent() -> None:
    """Ask the kernel to end this process when the supervisor that started it ends, however that happens."""
    end_with_parent(signal.SIGKILL)


def run(bench: Workbench, work: Work) -> Ending | Failed:
    """Do `work`, turning an error into the event that reports it; the stack trace goes to the job's log."""
    try:
        return _signed(work(bench))
    except WorkInterrupted as error:
        return Failed(message=error.message, retriable=True, interrupted=True)
    except SextantError as error:
        return Failed(message=error.message, field=error.field, retriable=isinstance(error, TransientError))
    except MemoryError:
        return Failed(message="the work ran out of memory", retriable=True)
    except OSError as error:
        traceback.print_exc(file=sys.stderr)
        return Failed(message=f"an operating-system call failed: {error.strerror or error}", retriable=True)
    except Exception as error:  # noqa: BLE001 - whatever user data provokes must be reported, not lost with the child
        traceback.print_exc(file=sys.stderr)
        return Failed(message=f"{type(error).__name__}: {error}")


def _signed(ending: Ending) -> Ending:
    if isinstance(ending, Result) and ending.registers:
        return ending.model_copy(update={"outputs": {**ending.outputs, "made_with": made_with()}})
    return ending
