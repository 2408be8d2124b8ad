"""Code of users' own: refused until an administrator allows it, and a tenant's alone."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.integration.sextant_scheduler.conftest import Api

from sextant_scheduler.handlers.submission import look_up_inputs
from sextant_shared.contracts.specs import SPEC
from sextant_shared.errors import InvalidInput

CONTENT = b"code"
MODEL = {"kind": "train", "data": {"dataset": "d"}, "model": {"code": "nets:build"}}


def upload(api: Api) -> str:
    """A complete one."""
    body = {"path": "code.tar", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    made = api.http.post("/v1/uploads", json=body).json()
    api.http.patch(f"/v1/uploads/{made['id']}", content=CONTENT, headers={"Upload-Offset": "0"}).raise_for_status()
    return f"upload://{made['id']}"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"kind": "script"}, "code"),
        (MODEL, "code"),
        ({"kind": "pipeline", "steps": {"own": {"kind": "script"}}}, "steps.own.code"),
    ],
)
def test_code_is_refused_with_the_name_of_the_setting(api: Api, spec: dict[str, Any], field: str) -> None:
    code = upload(api)
    steps = {name: {**step, "code": code} for name, step in spec.get("steps", {}).items()}
    answer = api.http.post("/v1/jobs", json={**spec, "steps": steps} if steps else {**spec, "code": code})
    assert answer.status_code == 422
    [finding] = answer.json()["errors"]
    assert finding["field"] == field
    assert "SEXTANT_USER_CODE" in finding["message"]


def test_code_is_recorded_by_its_hash_and_is_a_tenants_own(api: Api) -> None:
    spec = SPEC.validate_python({"kind": "script", "code": upload(api)})
    with api.engine.connect() as conn:
        inputs = look_up_inputs(conn, spec, "default", "confined")
        assert inputs["code"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        with pytest.raises(InvalidInput, match="does not exist") as refused:
            look_up_inputs(conn, spec, "another", "confined")
    assert refused.value.field == "code"
