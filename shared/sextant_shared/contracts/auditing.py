"""The audit log as it is hashed and exported: what both the database and whoever checks it compute.

An export is JSON lines: a header; one record for each sealed row in the order of the tree, then one for each row that
is not sealed yet; one for each job with its head; and an end, so that a file that was cut short is known as one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

FORMAT = "sextant-audit-log/1"
KEPT_AT_LEAST = timedelta(days=30)
"""No row younger than this may be taken out of the log."""

EXPIRED = "audit.expired"
"""The event of the row that says up to which moment a tenant's rows were taken out, in its body's `before`."""

HEADER_FIELDS = (
    "subject_type",
    "subject_id",
    "seq",
    "at",
    "actor",
    "event",
    "from_state",
    "to_state",
    "fence",
    "attempt",
)

_json = json.JSONEncoder(ensure_ascii=False).encode


def row_hash(row: Mapping[str, Any], prev: bytes) -> bytes:
    """SHA-256(0x01 || `prev` || JSON of the row's fields, the body by its own hash), as the database's `audit_hash`.

    `row` has HEADER_FIELDS, `at` as UTC text with microseconds, and `body`, the JSON text as it is stored. `prev` is
    the hash of the subject's row before, empty for its first.
    """
    fields = [row[name] for name in HEADER_FIELDS]
    fields.append(hashlib.sha256(row["body"].encode()).hexdigest())
    return hashlib.sha256(b"\x01" + prev + _json(fields).encode()).digest()


def leaf(tenant: str, subject_type: str, subject_id: str, seq: int, at: str, row_hash_hex: str) -> bytes:
    """What the Merkle tree has of a row: whose it is, its place in its subject's chain, when, and its hash.

    These stay when the row itself is taken out, so that the tree can be computed for ever.
    """
    return _json([tenant, subject_type, subject_id, seq, at, row_hash_hex]).encode()
