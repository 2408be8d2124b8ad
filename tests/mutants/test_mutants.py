"""The tests have teeth: each planted bug is found by some tier."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.planting import PATCHES, about, applies, look_for

NUMBER = 13


def test_there_is_a_patch_for_every_bug_that_is_claimed_to_be_found() -> None:
    assert [int(patch.name[:2]) for patch in PATCHES] == list(range(1, NUMBER + 1))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_says_what_it_plants_and_still_applies(patch: Path) -> None:
    assert about(patch)
    assert applies(patch) is None


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found(patch: Path) -> None:
    found = look_for(patch)
    assert found.tier is not None, f"nothing found it: {found.about}"
