"""`python -m sextant_trainer.zygote FD THREADS PROFILES ADDRESS`: has imported torch, and forks ranks from itself.

Before a fork there are no threads, no CUDA context and no credentials in it. It serves one agent over an inherited
socket: a request is JSON with the file descriptor for the first rank's events; answers are JSON, {"gang", "pids",
"meeting"}, and {"pid", "code"} as ranks end.
When the socket closes, the agent is gone, and so is every gang.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# Imported for the ranks, before any fork: this is what a zygote is for.
import torch
import torch.distributed.checkpoint.state_dict_loader
import torch.distributed.checkpoint.state_dict_saver
import torch.nn.parallel

from sextant_parallel.world import Meeting
from sextant_shared.execution import child
from sextant_shared.execution.workbench import Failed, Workbench
from sextant_shared.lifecycle.place import Place
from sextant_trainer.training.child import train
from sextant_zoo import describe, names

MAX_REQUEST = 1 << 16


class Zygote:
    """Forks ranks, reaps them, and tells the agent how they ended."""

    def __init__(self, agent: socket.socket, threads: int, profiles: Path, address: str) -> None:
        self._agent, self._address = agent, address
        self._threads, self._profiles = threads, profiles
        self._wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._groups: dict[int, int] = {}

    def serve(self) -> None:
        """Until the agent is gone."""
        self._tell({"ready": os.getpid()})
        while True:
            readable, _, _ = select.select([self._agent.fileno(), self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
                self._reap()
            if self._agent.fileno() in readable and not self._receive():
                break
        for group in set(self._groups.values()):
            _kill(group)

    def _receive(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._agent, MAX_REQUEST, 1)
        if not data:
            return False
        request = json.loads(data)
        directory, place = Path(request["directory"]), Place(**request["place"])
        listener = self._open(place)
        meeting = Meeting(place.meeting) if place.meeting else listener
        pids = self._start(directory, place, meeting, descriptors[0])
        os.close(descriptors[0])
        if listener:
            os.close(listener.listener or 0)
        self._tell({"gang": request["gang"], "pids": pids, "meeting": listener and listener.address})
        return True

    def _open(self, place: Place) -> Meeting | None:
        """Where ranks of other nodes meet those of this one, if it leads: rank 0 takes over what listens there."""
        if place.nodes == 1 or place.first > 0:
            return None
        listener = socket.create_server((self._address, 0))
        return Meeting(f"{self._address}:{listener.getsockname()[1]}", listener.detach())

    def _start(self, directory: Path, place: Place, meeting: Meeting | None, events: int) -> list[int]:
        group = 0
        pids: list[int] = []
        for rank in range(place.first, place.first + place.ranks):
            pid = os.fork()
            if pid == 0:
                self._become_rank(directory, place, rank, meeting, events, group)
            group = group or pid
            os.setpgid(pid, group)
            self._groups[pid] = group
            pids.append(pid)
        return pids

    def _become_rank(
        self, directory: Path, place: Place, rank: int, meeting: Meeting | None, events: int, group: int
    ) -> None:
        code = 1
        try:
            os.setpgid(0, group)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # Only the first rank reports, and a signal to pause that comes early must not kill the others.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            child.die_with_parent()
            self._agent.close()
            os.close(self._wakeup)
            code = self._run_rank(directory, place, rank, meeting, events)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: the interpreter's shutdown belongs to the zygote.
            os._exit(code)

    def _run_rank(self, directory: Path, place: Place, rank: int, meeting: Meeting | None, events: int) -> int:
        output = os.open(directory / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        gc.unfreeze()
        first = rank == place.first
        bench = Workbench.open(directory, events if first else os.open(os.devnull, os.O_WRONLY))
        where = meeting or directory / "rendezvous"
        ending = child.run(
            bench, lambda bench: train(bench, place, rank, where, threads=self._threads, profiles=self._profiles)
        )
        if isinstance(ending, Failed) and not first:
            # The first rank's report counts, but it may be the one that waits for this rank.
            sys.stderr.write(f"rank {rank}: {ending.message}\n")
        if first or isinstance(ending, Failed):
            _report(bench, ending, rank, events, first=first)
        return 1 if isinstance(ending, Failed) else 0

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            group = self._groups.pop(pid, None)
            if code != 0 and group is not None:
                # One rank lost is the gang lost; the others would wait for it until they time out.
                _kill(group)
            self._tell({"pid": pid, "code": code})

    def _tell(self, message: dict[str, Any]) -> None:
        self._agent.sendall(json.dumps(message).encode() + b"\n")


def _report(bench: Workbench, ending: Any, rank: int, events: int, *, first: bool) -> None:
    if first:
        bench.finish(ending)
    else:
        message = f"rank {rank}: {ending.message}"
        Workbench(bench.directory, bench.order, events).finish(ending.model_copy(update={"message": message}))


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _warm() -> None:
    """Import what the first gang would import lazily, without starting a thread."""
    torch.set_num_threads(1)
    for name in names():
        import_module(describe(name).module)


def main(descriptor: int, threads: int, profiles: Path, address: str) -> None:
    """Serve the agent at the other end of the socket `descriptor`; each rank computes with this many threads.

    `profiles` is the directory that keeps what ranks have measured of this node and of models; `address` is where ranks
    of other nodes reach those of this one.
    """
    child.die_with_parent()
    _warm()
    # The pages of all that is loaded stay shared with the ranks: the collector does not touch them any more.
    gc.collect()
    gc.freeze()
    Zygote(socket.socket(fileno=descriptor), threads, profiles, address).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
