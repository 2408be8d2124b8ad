"""The published description of the API (OpenAPI 3.1): what FastAPI cannot know of it is added here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sextant_scheduler.api.idempotency import MAX_KEY
from sextant_scheduler.api.problems import MEDIA_TYPE
from sextant_shared.contracts.specs import SPEC
from sextant_shared.contracts.views import Problem

REF = "#/components/schemas/{model}"
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    "description": "The same request with the same key takes effect once and gets the first answer; another is a 422.",
}
PROBLEM = {
    "description": "An error, as problem details (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
}


def describe(app: FastAPI, open_routes: Collection[str]) -> Callable[[], dict[str, Any]]:
    """A function for `app.openapi`: made when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, open_routes)
        return app.openapi_schema

    return document


def _document(app: FastAPI, open_routes: Collection[str]) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = made["components"]
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "an API key"}}
    components["schemas"] = {**_without_fastapis(components["schemas"]), **_schemas()}
    for path, item in made["paths"].items():
        for method, operation in item.items():
            operation["responses"].pop("422", None)
            if path not in open_routes:
                operation["security"] = [{"key": []}]
                operation["responses"]["default"] = PROBLEM
            if method in ("post", "delete") and not path.endswith("/validate"):
                operation.setdefault("parameters", []).append(KEY)
    return made


def _schemas() -> dict[str, Any]:
    """Job specs and errors, with what they are made of."""
    found: dict[str, Any] = {}
    problem = Problem.model_json_schema(ref_template=REF)
    for name, schema in (("JobSpec", SPEC.json_schema(ref_template=REF)), ("Problem", problem)):
        found |= schema.pop("$defs", {})
        found[name] = schema
    for schema in found.values():
        # What tells the kinds apart must be there, though each kind knows it of itself.
        if "const" in schema.get("properties", {}).get("kind", {}):
            schema["required"] = sorted({"kind", *schema.get("required", ())})
    return found


def _without_fastapis(schemas: dict[str, Any]) -> dict[str, Any]:
    # Its own form of a 422, which this API does not use.
    return {name: schema for name, schema in schemas.items() if name not in ("HTTPValidationError", "ValidationError")}
