"""Two tenants may call their endpoints the same, and neither reaches the other's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from sextant_inference import api
from sextant_inference.gate import TENANT, Gate
from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models
from sextant_shared.errors import Forbidden
from sextant_shared.security import Identity, Secret, StoredKey
from sextant_shared.store.engine import connect_async

from .conftest import MakeModel, wanted

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}]}


def test_a_name_means_its_callers_endpoint(models: Models, metrics: InferenceMetrics, make_model: MakeModel) -> None:
    async def tenant(request: Request) -> str:
        return request.headers[TENANT]

    async def ask(http: httpx.AsyncClient, who: str) -> Any:
        answer = await http.post("/v2/models/net/infer", json=BODY, headers={TENANT: who})
        return answer.json()["outputs"][0]["data"] if answer.status_code == 200 else answer.status_code

    async def run() -> list[Any]:
        app = api.create(models, tenant, metrics, 10_000)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inference") as http:
            for who, factor in (("a", 1.0), ("b", 5.0)):
                await models.load(replace(wanted(make_model(factor)), tenant=who))
            answers = [await ask(http, who) for who in ("a", "b", "c")]
            models.unload("a", "net")
            return [*answers, await ask(http, "a"), await ask(http, "b")]

    assert asyncio.run(run()) == [[2, 1], [10, 5], 404, 404, [10, 5]]


def gate(tenant: str, *scopes: str) -> tuple[Gate, str]:
    """A gate that knows one key, and the key."""
    secret = Secret.new()
    made = Gate(connect_async("postgresql+psycopg://nobody@127.0.0.1:9/none"))
    made._keys.put(secret.prefix, StoredKey(Identity("1", "k", tenant, frozenset(scopes)), secret.hash, None))
    return made, str(secret)


def ask(gate_and_key: tuple[Gate, str], tenant: str | None) -> str:
    """The tenant whose endpoints a request with the key, and perhaps the header, gets."""
    made, key = gate_and_key
    headers = [(b"authorization", f"Bearer {key}".encode())]
    headers += [(TENANT.encode(), tenant.encode())] if tenant else []
    return asyncio.run(made.check(Request({"type": "http", "headers": headers})))


def test_only_the_operators_key_for_it_acts_for_other_tenants() -> None:
    assert ask(gate("other", "infer"), None) == "other"
    assert ask(gate("other", "infer"), "other") == "other"
    assert ask(gate("default", "infer", "tenants"), "other") == "other"
    for tenant, scopes in (("default", ["infer"]), ("other", ["infer", "tenants"]), ("other", ["admin"])):
        with pytest.raises(Forbidden):
            ask(gate(tenant, *scopes), "third")
