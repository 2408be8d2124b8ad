"""What the node that leads a gang does about the other nodes: calls them, sees who is gone, and asks how they ended."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from sextant_shared.contracts.messages import SUMMONED
from sextant_shared.execution.workbench import Failed
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import gangs
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.place import Place

JOIN_WITHIN_S = 30.0
ASK_EVERY_S = 0.1


class Company:
    """The members of one attempt's gang; there are none where it has one node."""

    def __init__(self, shop: Workshop, job: Job, place: Place) -> None:
        self._shop, self._job = shop, job
        self._needed = place.nodes > 1

    def call(self, meeting: str | None, node: str) -> None:
        """Tell the members where the ranks meet."""
        if self._needed and meeting is not None:
            with self._shop.engine.begin() as conn:
                gangs.summon(conn, self._job.id, self._job.fence, node, meeting, JOIN_WITHIN_S)
                self._shop.faults.reach(Point.SUMMON_WRITTEN)
            self._shop.faults.reach(Point.SUMMON_COMMITTED)
            self._shop.bus.publish(SUMMONED)

    def look(self, conn: Connection) -> bool:
        """Whether all members are there, or have done their part."""
        return not self._needed or not any(map(_missing, self._members(conn)))

    def why(self) -> Failed | str | None:
        """Why the gang broke, as far as members know: an error of their work, or what became of one of them.

        Waits until all have told or have lapsed, which is no longer than a lease.
        """
        if not self._needed:
            return None
        members = self._settled()
        with self._shop.engine.begin() as conn:
            gangs.distrust(conn, [member.node for member in members if member.lapsed])
        for member in members:
            failed = Failed.model_validate(member.ended["failed"]) if member.ended and member.ended["failed"] else None
            if failed and not failed.interrupted:
                return failed.model_copy(update={"message": f"on node {member.node}: {failed.message}"})
        # Those that lost touch with another are the last to say what became of it.
        return min(filter(None, map(_missing, members)), default=(0, None))[1]

    def _settled(self) -> list[gangs.Member]:
        until = time.monotonic() + self._shop.lease_s + 1.0
        while True:
            with self._shop.engine.connect() as conn:
                members = self._members(conn)
            if all(member.lapsed or member.ended for member in members) or time.monotonic() > until:
                return members
            time.sleep(ASK_EVERY_S)

    def _members(self, conn: Connection) -> list[gangs.Member]:
        return gangs.members(conn, self._job.id, self._job.fence)


def _missing(member: gangs.Member) -> tuple[int, str] | None:
    """What became of a member, after how near that is to the cause; None for one that is there or did its part."""
    if member.lapsed:
        return 0, f"node {member.node} did not join, or fell silent"
    if member.ended and not member.ended["clean"]:
        return (2 if member.ended["failed"] else 1), f"on node {member.node}: {member.ended['reason']}"
    return None
