"""Routes for operators: nodes and API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection

from sextant_scheduler.api.context import Administers, Context, Guarded, Here, ReadsNodes
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.handlers import keys
from sextant_scheduler.store import reads
from sextant_shared.contracts.base import Accepted, Name
from sextant_shared.contracts.views import KeyView, NodeView, Page
from sextant_shared.errors import InvalidInput
from sextant_shared.security import OPERATOR, SCOPES, Identity, Secret

router = APIRouter(route_class=Guarded, prefix="/v1")


class NewKey(Accepted):
    """A key to make."""

    name: Name
    scopes: list[Annotated[str, Field(json_schema_extra={"enum": [*SCOPES]})]] = Field(
        min_length=1, max_length=len(SCOPES)
    )
    expires_in_days: int | None = Field(None, ge=1, le=3650)
    tenant: Name | None = Field(None, description="the caller's own otherwise; another one takes the scope `tenants`")


class Rotation(Accepted):
    """How a key is replaced."""

    overlap_s: int = Field(0, ge=0, le=30 * 24 * 3600, description="how long the old key works beside the new one")


@router.get("/nodes", tags=["nodes"])
async def nodes(here: Here, who: ReadsNodes) -> Page[NodeView]:
    """The trainer nodes and their slots."""
    return Page(items=await here.read(reads.nodes))


@router.post("/keys", status_code=201, tags=["keys"])
async def create_key(body: NewKey, request: Request, here: Here, who: Administers) -> KeyView:
    """Make an API key. Its secret is shown once: the same request again gives the same key without it."""
    unknown = sorted(set(body.scopes) - set(SCOPES))
    if unknown:
        raise InvalidInput(f"unknown scope {unknown[0][:80]!r}", field="scopes", accepted=", ".join(SCOPES))
    owner = who.acting_for(body.tenant or who.tenant)
    if "tenants" in body.scopes and owner.tenant != OPERATOR:
        raise InvalidInput("only keys of the platform's operator act for other tenants", field="scopes")
    expires_at = datetime.now(UTC) + timedelta(days=body.expires_in_days) if body.expires_in_days else None

    def create(conn: Connection, secret: Secret) -> KeyView:
        limit = here.settings.max_keys
        return keys.create(conn, owner, secret, body.name, body.scopes, expires_at, at_most=limit)

    return await _shown_once(request, here, who, create)


@router.post("/keys/{key_id}/rotate", status_code=201, tags=["keys"])
async def rotate_key(
    key_id: UUID, request: Request, here: Here, who: Administers, body: Rotation | None = None
) -> KeyView:
    """Replace a key by a new one of the same name, scopes and expiry; the old one ends after `overlap_s`."""
    overlap = timedelta(seconds=body.overlap_s if body else 0)

    def rotate(conn: Connection, secret: Secret) -> KeyView:
        return keys.rotate(conn, who, key_id, secret, overlap, at_most=here.settings.max_keys)

    return await _shown_once(request, here, who, rotate)


async def _shown_once(
    request: Request, here: Context, who: Identity, make: Callable[[Connection, Secret], KeyView]
) -> KeyView:
    """The key that `make` makes, with its secret; for the same request again the same key, without it."""
    raw, secret = await request.body(), Secret.new()
    fresh: list[KeyView] = []

    def work(conn: Connection) -> dict[str, Any]:
        fresh.append(make(conn, secret))
        return fresh[0].model_dump(mode="json")

    kept = await here.write(lambda conn: once(conn, request, who.tenant, raw, work))
    return KeyView.model_validate({**kept, "secret": str(secret) if fresh else None})


@router.get("/keys", tags=["keys"])
async def list_keys(here: Here, who: Administers) -> Page[KeyView]:
    """The API keys, without their secrets."""
    return Page(items=await here.read(lambda conn: reads.keys(conn, who.tenant)))


@router.delete("/keys/{key_id}", tags=["keys"])
async def revoke_key(key_id: UUID, request: Request, here: Here, who: Administers) -> KeyView:
    """Revoke a key. It may work for some seconds more."""

    def work(conn: Any) -> dict[str, Any]:
        return once(conn, request, who.tenant, b"", lambda c: keys.revoke(c, who, key_id).model_dump(mode="json"))

    return KeyView.model_validate(await here.write(work))
