"""Routes for operators: nodes and API keys."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field

from sextant_scheduler.api.context import Administers, Here, ReadsNodes
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.handlers import keys
from sextant_scheduler.store import reads
from sextant_shared.contracts.base import Accepted, Name
from sextant_shared.contracts.views import KeyView, NodeView, Page
from sextant_shared.errors import InvalidInput
from sextant_shared.security import SCOPES, Secret

router = APIRouter(prefix="/v1")


class NewKey(Accepted):
    """A key to make."""

    name: Name
    scopes: list[Annotated[str, Field(json_schema_extra={"enum": [*SCOPES]})]] = Field(
        min_length=1, max_length=len(SCOPES)
    )
    expires_in_days: int | None = Field(None, ge=1, le=3650)


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
    raw, secret = await request.body(), Secret.new()
    fresh: list[KeyView] = []

    def create(conn: Any) -> dict[str, Any]:
        fresh.append(keys.create(conn, who, secret, body.name, body.scopes, body.expires_in_days))
        return fresh[0].model_dump(mode="json")

    kept = await here.write(lambda conn: once(conn, request, who.tenant, raw, create))
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
