"""API keys: made, listed and revoked, each change audited."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, func, insert, or_, select, update

from sextant_shared.contracts.views import KeyView
from sextant_shared.errors import Conflict, NotFound, QuotaExceeded
from sextant_shared.ids import new_id
from sextant_shared.security import Identity, Secret
from sextant_shared.store import audit
from sextant_shared.store import tables as t

NOW = func.clock_timestamp()


def create(
    conn: Connection,
    who: Identity,
    secret: Secret,
    name: str,
    scopes: list[str],
    expires_at: datetime | None,
    *,
    at_most: int,
) -> KeyView:
    """Make a key of the caller's tenant; only the hash of its secret is stored. Raises QuotaExceeded."""
    valid = (t.api_keys.c.revoked_at.is_(None), or_(t.api_keys.c.expires_at.is_(None), t.api_keys.c.expires_at > NOW))
    query = select(func.count()).select_from(t.api_keys).where(t.api_keys.c.tenant == who.tenant, *valid)
    if conn.execute(query).scalar_one() >= at_most:
        raise QuotaExceeded(f"the tenant has {at_most} keys, which is as many as it may have; revoke some")
    values = {
        "id": new_id(),
        "tenant": who.tenant,
        "name": name,
        "prefix": secret.prefix,
        "secret_hash": secret.hash,
        "scopes": scopes,
        "expires_at": expires_at,
    }
    row = conn.execute(insert(t.api_keys).values(values).returning(t.api_keys)).mappings().one()
    detail = {"name": name, "prefix": secret.prefix, "scopes": scopes}
    audit.append(conn, "key", row["id"], tenant=who.tenant, actor=who.actor, event="created", detail=detail)
    return KeyView.model_validate(dict(row))


def rotate(
    conn: Connection, who: Identity, key_id: UUID, secret: Secret, overlap: timedelta, *, at_most: int
) -> KeyView:
    """A new key in the place of another, which works on for `overlap` at most. Raises NotFound, Conflict."""
    where = (t.api_keys.c.id == key_id, t.api_keys.c.tenant == who.tenant)
    old = conn.execute(select(t.api_keys, NOW.label("now")).where(*where).with_for_update()).one_or_none()
    if old is None:
        raise NotFound(f"no key {key_id}")
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= old.now):
        raise Conflict("the key is revoked or has expired; make a new one")
    made = create(conn, who, secret, old.name, list(old.scopes), old.expires_at, at_most=at_most)
    ends = old.now + overlap if old.expires_at is None else min(old.expires_at, old.now + overlap)
    conn.execute(update(t.api_keys).where(*where).values(expires_at=ends))
    detail = {"name": old.name, "by": str(made.id), "works_until": ends.isoformat()}
    audit.append(conn, "key", key_id, tenant=who.tenant, actor=who.actor, event="rotated", detail=detail)
    return made


def revoke(conn: Connection, who: Identity, key_id: UUID) -> KeyView:
    """Make a key useless; it stays in the list. Raises NotFound."""
    where = (t.api_keys.c.id == key_id, t.api_keys.c.tenant == who.tenant)
    if conn.execute(select(t.api_keys.c.id).where(*where).with_for_update()).one_or_none() is None:
        raise NotFound(f"no key {key_id}")
    values = {"revoked_at": func.coalesce(t.api_keys.c.revoked_at, func.clock_timestamp())}
    row = conn.execute(update(t.api_keys).where(*where).values(values).returning(t.api_keys)).mappings().one()
    audit.append(conn, "key", key_id, tenant=who.tenant, actor=who.actor, event="revoked", detail={"name": row["name"]})
    return KeyView.model_validate(dict(row))
