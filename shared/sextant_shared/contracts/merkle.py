"""The Merkle tree hash of RFC 6962, section 2.1, of a list that only grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def leaf_hash(data: bytes) -> bytes:
    """MTH of a list of one: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The roots of the largest whole subtrees, left to right: enough to append and to tell the root, log2(n) hashes."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._peaks: list[bytes] = []
        for one in leaves:
            self.append(one)

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash at the end."""
        carry, rest = leaf, self.size
        while rest & 1:
            carry = node_hash(self._peaks.pop(), carry)
            rest >>= 1
        self._peaks.append(carry)
        self.size += 1

    def root(self) -> bytes:
        """MTH of all leaves so far; of none, SHA-256 of nothing."""
        if not self._peaks:
            return hashlib.sha256().digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> Tree:
        """The same tree, to be tried on."""
        other = Tree()
        other.size, other._peaks = self.size, list(self._peaks)
        return other
