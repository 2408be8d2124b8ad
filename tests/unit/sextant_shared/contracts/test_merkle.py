"""The Merkle tree is that of RFC 6962."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sextant_shared.contracts.merkle import Tree, leaf_hash

# The entries and roots that the reference implementations of certificate transparency are tested with.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOT_OF_ONE = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
ROOT_OF_EIGHT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH as section 2.1 defines it, split at the largest power of two below the size."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + by_definition(leaves[:half]) + by_definition(leaves[half:])).digest()


def test_known_roots() -> None:
    entries = [bytes.fromhex(entry) for entry in ENTRIES]
    assert Tree([leaf_hash(entries[0])]).root().hex() == ROOT_OF_ONE
    assert Tree(map(leaf_hash, entries)).root().hex() == ROOT_OF_EIGHT


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_every_size_has_the_root_of_the_definition(leaves: list[bytes]) -> None:
    tree = Tree()
    for number, data in enumerate(leaves):
        assert tree.root() == by_definition(leaves[:number])
        before = tree.copy()
        tree.append(leaf_hash(data))
        assert before.root() == by_definition(leaves[:number])
    assert (tree.root(), tree.size) == (by_definition(leaves), len(leaves))
