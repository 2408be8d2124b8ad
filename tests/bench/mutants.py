"""Bugs of the protocol planted on purpose: how many the tests find, which tier does, and how long it takes."""

from __future__ import annotations

from tests.bench.report import Report
from tests.mutants.planting import PATCHES, TIERS, look_for

QUICK = ("05", "11")


def run(report: Report) -> None:
    """One after the other; a quick run plants two that the simulation finds."""
    patches = [patch for patch in PATCHES if not report.quick or patch.name[:2] in QUICK]
    found = []
    for patch in patches:
        looked = look_for(patch)
        tier = looked.tier or "nothing"
        report.say(f"{looked.name}: {tier} ({looked.tier_s:.0f} s of {looked.total_s:.0f} s) {looked.saw[:150]}")
        report.note(
            f"{looked.name}: found by {tier} in {looked.tier_s:.1f} s, {looked.total_s:.1f} s with all before it"
        )
        found.append(looked)
    report.figure("planted", len(found))
    report.figure("found", sum(looked.tier is not None for looked in found))
    report.sample("tier_s", [looked.tier_s for looked in found])
    report.sample("total_s", [looked.total_s for looked in found])
    report.note("tiers in the order in which they look: simulation, stateful tests on the model, on PostgreSQL, others")
    _nothing(report, {looked.tier for looked in found if looked.tier})


def _nothing(report: Report, tiers: set[str]) -> None:
    """What found something must find nothing where nothing is planted."""
    looked = look_for(None, [tier for tier in TIERS if tier in tiers])
    report.figure("found_unplanted", float(looked.tier is not None))
    report.note(f"nothing planted: {looked.tier or 'nothing found'}, {looked.total_s:.1f} s {looked.saw[:150]}".strip())
