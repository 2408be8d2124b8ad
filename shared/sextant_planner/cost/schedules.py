"""Pipeline schedules, played through: when each stage runs which micro-batch, and when the last one is done.

Orders: GPipe (Huang et al., 2019), 1F1B (Narayanan et al., 2019), interleaved 1F1B (Narayanan et al., SC21), zero
bubble (Qi et al., 2023), each as torch.distributed.pipelining runs them. An operation starts when its rank is free and
its input has arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sextant_planner.plan import Schedule

FORWARD, BACKWARD = 0, 1
Operation = tuple[int, int, int]
"""(FORWARD or BACKWARD, chunk of the rank, micro-batch)"""


@dataclass(frozen=True, slots=True)
class StageCost:
    """One virtual stage: seconds of a micro-batch's passes, of which `weight` belongs to the backward pass."""

    forward: float
    backward: float
    weight: float
    parting: float
    """What this takes more where it is put off."""
    send: float
    """Seconds that its output takes to the next stage; a gradient takes as long to the one before."""


def order(schedule: Schedule, ranks: int, rank: int, chunks: int, microbatches: int) -> list[Operation]:
    """The operations of one rank, in order."""
    total = chunks * microbatches
    if schedule is Schedule.GPIPE:
        warm = total
    elif chunks == 1:
        warm = min(total, ranks - 1 - rank)
    else:
        warm = min(total, (chunks - 1) * ranks + 2 * (ranks - 1 - rank))
    forwards = [(FORWARD, *_place(index, ranks, chunks)) for index in range(total)]
    backwards = [(BACKWARD, *_place(index, ranks, chunks, reverse=True)) for index in range(total)]
    steady = [op for pair in zip(forwards[warm:], backwards, strict=False) for op in pair]
    return [*forwards[:warm], *steady, *backwards[total - warm :]]


def _place(index: int, ranks: int, chunks: int, *, reverse: bool = False) -> tuple[int, int]:
    """Chunk and micro-batch of the index-th pass: `ranks` micro-batches go through a chunk, then through the next."""
    if chunks == 1:
        return 0, index
    round_, within = divmod(index, ranks * chunks)
    chunk, offset = divmod(within, ranks)
    return chunks - 1 - chunk if reverse else chunk, round_ * ranks + offset


def in_flight(schedule: Schedule, ranks: int, rank: int, chunks: int, microbatches: int) -> float:
    """Micro-batches whose activations a rank holds at most, each counted by the share of the rank's chunks it is in."""
    held = most = 0
    for kind, _, _ in order(schedule, ranks, rank, chunks, min(microbatches, 4 * ranks)):
        held += 1 if kind == FORWARD else -1
        most = max(most, held)
    scale = microbatches / min(microbatches, 4 * ranks) if schedule is Schedule.GPIPE else 1.0
    return most * scale / chunks


class _Rank:
    """One rank's progress through its operations."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.next = 0
        self.free = 0.0
        self.owed = 0.0
        """Weight gradients that were put off, to be done where the rank would wait."""


class Player:
    """Plays one schedule over stages of given costs."""

    def __init__(self, stages: Sequence[StageCost], ranks: int, schedule: Schedule, *, blocking_sends: bool) -> None:
        """`stages` in the order of the forward pass; stage i lies on rank i modulo `ranks`."""
        self._stages = stages
        self._ranks = ranks
        self._schedule = schedule
        self._blocking = blocking_sends
        self._ready: dict[tuple[int, int, int], float] = {}

    def play(self, microbatches: int) -> float:
        """Seconds of one step."""
        chunks = len(self._stages) // self._ranks
        ranks = [_Rank(order(self._schedule, self._ranks, rank, chunks, microbatches)) for rank in range(self._ranks)]
        self._ready = {(FORWARD, 0, micro): 0.0 for micro in range(microbatches)}
        going = True
        while going:
            going = False
            for index, rank in enumerate(ranks):
                while rank.next < len(rank.operations) and self._advance(index, rank):
                    going = True
        if any(rank.next < len(rank.operations) for rank in ranks):
            raise RuntimeError("the schedule waits for itself")
        return max(rank.free + rank.owed for rank in ranks)

    def _advance(self, index: int, rank: _Rank) -> bool:
        kind, chunk, micro = rank.operations[rank.next]
        stage = chunk * self._ranks + index
        arrived = self._ready.get((kind, stage, micro))
        if arrived is None:
            return False
        cost = self._stages[stage]
        filled = min(rank.owed, max(0.0, arrived - rank.free))
        rank.owed -= filled
        start = max(arrived, rank.free + filled)
        parted = kind == BACKWARD and self._schedule is Schedule.ZERO_BUBBLE
        put_off = cost.weight if parted else 0.0
        work = cost.forward if kind == FORWARD else cost.backward - put_off
        rank.owed += put_off + (cost.parting if parted else 0.0)
        rank.free = start + work
        rank.next += 1
        self._pass_on(kind, stage, micro, rank)
        return True

    def _pass_on(self, kind: int, stage: int, micro: int, rank: _Rank) -> None:
        last = len(self._stages) - 1
        if kind == FORWARD and stage == last:
            self._ready[BACKWARD, stage, micro] = rank.free
            return
        if kind == BACKWARD and stage == 0:
            return
        send = self._stages[stage if kind == FORWARD else stage - 1].send
        if self._blocking:
            rank.free += send
        self._ready[kind, stage + (1 if kind == FORWARD else -1), micro] = rank.free + (0.0 if self._blocking else send)


def at_least(stages: Sequence[StageCost], ranks: int, microbatches: int) -> float:
    """A lower bound of what `Player.play` gives: the work of the busiest rank."""
    work = [0.0] * ranks
    for number, stage in enumerate(stages):
        work[number % ranks] += stage.forward + stage.backward
    return max(microbatches * each for each in work)
