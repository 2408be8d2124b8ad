"""Names the rank that a gang waited for: every rank notes its step in the store, and a timeout reads the notes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from torch._C._distributed_c10d import Store


@dataclass(frozen=True, slots=True)
class Note:
    """The last that is known of a rank."""

    rank: int
    step: int
    host: str
    at: float


class Attendance:
    """Notes of all ranks in a store that outlives each of them."""

    def __init__(self, store: Store, rank: int, size: int, host: str) -> None:
        self._store, self._rank, self._size, self._host = store, rank, size, host

    def note(self, step: int) -> None:
        """This rank begins `step`."""
        body = json.dumps([step, self._host, time.time()])
        self._store.set(f"attendance/{self._rank}", body)

    def notes(self) -> list[Note]:
        """Of every rank that has noted anything."""
        found = []
        for rank in range(self._size):
            key = f"attendance/{rank}"
            if self._store.check([key]):
                step, host, at = json.loads(self._store.get(key))
                found.append(Note(rank, step, host, at))
        return found

    def accuse(self) -> str:
        """One line that says which rank the others wait for."""
        notes = self.notes()
        absent = sorted(set(range(self._size)) - {note.rank for note in notes})
        if absent:
            return f"rank {absent[0]} never began a step; {len(absent)} of {self._size} ranks have not"
        slowest = min(notes, key=lambda note: (note.step, note.at))
        ahead = max(note.step for note in notes)
        age = max(note.at for note in notes) - slowest.at
        return (
            f"rank {slowest.rank} on {slowest.host} was last seen in step {slowest.step}, {age:.1f} s before the last"
            f" sign of any rank; the others are in step {ahead}"
        )
