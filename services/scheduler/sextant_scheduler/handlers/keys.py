"""API keys: made, listed and revoked, each change audited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update

from sextant_shared.contracts.views import KeyView
from sextant_shared.errors import NotFound
from sextant_shared.ids import new_id
from sextant_shared.security import Identity, Secret
from sextant_shared.store import audit
from sextant_shared.store import tables as t


def create(conn: Connection, who: Identity, secret: Secret, name: str, scopes: list[str], days: int | None) -> KeyView:
    """Make a key; only the hash of its secret is stored."""
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    values = {
        "id": new_id(),
        "tenant": who.tenant,
        "name": name,
        "prefix": secret.prefix,
        "secret_hash": secret.hash,
        "scopes": scopes,
        "expires_at": expires,
    }
    row = conn.execute(insert(t.api_keys).values(values).returning(t.api_keys)).mappings().one()
    detail = {"name": name, "prefix": secret.prefix, "scopes": scopes}
    audit.append(conn, "key", row["id"], tenant=who.tenant, actor=who.actor, event="created", detail=detail)
    return KeyView.model_validate(dict(row))


def revoke(conn: Connection, who: Identity, key_id: UUID) -> KeyView:
    """Make a key useless; it stays in the list. Raises NotFound."""
    where = (t.api_keys.c.id == key_id, t.api_keys.c.tenant == who.tenant)
    if conn.execute(select(t.api_keys.c.id).where(*where).with_for_update()).one_or_none() is None:
        raise NotFound(f"no key {key_id}")
    values = {"revoked_at": func.coalesce(t.api_keys.c.revoked_at, func.clock_timestamp())}
    row = conn.execute(update(t.api_keys).where(*where).values(values).returning(t.api_keys)).mappings().one()
    audit.append(conn, "key", key_id, tenant=who.tenant, actor=who.actor, event="revoked", detail={"name": row["name"]})
    return KeyView.model_validate(dict(row))
