"""The published description of the API: complete, and true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sextant_scheduler.api.application import OPEN_ROUTES
from sextant_shared.contracts.specs import KINDS

from .conftest import Api


def document(api: Api) -> dict[str, Any]:
    """As it is published."""
    found: dict[str, Any] = api.http.get("/openapi.json").json()
    return found


def references(value: Any) -> Iterator[str]:
    """All that a part of the document refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_leads_to_a_schema(api: Api) -> None:
    published = document(api)
    there = {f"#/components/schemas/{name}" for name in published["components"]["schemas"]}
    assert set(references(published)) <= there


def test_every_kind_of_job_is_described_where_it_is_submitted(api: Api) -> None:
    published = document(api)
    body = published["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JobSpec"}
    kinds = published["components"]["schemas"]["JobSpec"]["discriminator"]["mapping"]
    assert set(kinds) == set(KINDS)


def test_every_call_says_that_it_needs_a_key_how_it_fails_and_what_makes_it_idempotent(api: Api) -> None:
    for path, item in document(api)["paths"].items():
        for method, operation in item.items():
            assert operation["description"], (method, path)
            names = [parameter["name"] for parameter in operation.get("parameters", [])]
            takes_effect = method in ("post", "delete") and path != "/v1/jobs/validate"
            assert ("Idempotency-Key" in names) == takes_effect, (method, path)
            if path not in OPEN_ROUTES:
                assert operation["security"] == [{"key": []}], (method, path)
                assert "application/problem+json" in operation["responses"]["default"]["content"]
