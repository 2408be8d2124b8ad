"""Endpoints: what is desired of them is changed here; the inference service makes it so."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from sextant_scheduler.store import reads
from sextant_shared.contracts.views import EndpointView
from sextant_shared.security import Identity
from sextant_shared.store import audit
from sextant_shared.store import tables as t


def delete(conn: Connection, who: Identity, name: str, url: str) -> EndpointView:
    """Ask for the endpoint to go. Raises NotFound."""
    view = reads.endpoints(conn, who.tenant, url, name)[0]
    where = (t.endpoints.c.tenant == who.tenant, t.endpoints.c.name == name)
    row = conn.execute(select(t.endpoints).where(*where).with_for_update()).one()
    values = {
        "generation": row.generation + 1,
        "model_id": None,
        "state": "DELETING",
        "updated_at": func.clock_timestamp(),
    }
    conn.execute(update(t.endpoints).where(*where).values(values))
    audit.append(
        conn,
        "endpoint",
        row.id,
        tenant=who.tenant,
        actor=who.actor,
        event="delete-requested",
        detail={"name": name},
        from_state=row.state,
        to_state="DELETING",
    )
    return view.model_copy(update={"state": "DELETING"})
