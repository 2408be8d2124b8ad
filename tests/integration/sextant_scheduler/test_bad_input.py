"""What is not accepted: refused in words that name the field, and nothing is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from .conftest import Api

LARGE = 10_000_000
PREPARE = {"kind": "prepare", "source": "package://sklearn/digits", "task": "image-classification"}
OWN = {"architecture": "transformer"}
TRAIN = {"kind": "train", "data": {"step": "d"}, "model": {"zoo": "mlp"}}


def pipeline(steps: dict[str, Any], **rest: Any) -> bytes:
    """The body of a pipeline."""
    return json.dumps({"kind": "pipeline", "steps": steps, **rest}).encode()


SPECS: list[tuple[bytes, str]] = [
    (b"", "(body)"),
    (b"[]", "(body)"),
    (b"{", "(body)"),
    (b"\xff\xfe", "(body)"),
    (b"{}", "kind"),
    (b'{"kind": "nothing"}', "kind"),
    (b'{"kind": "probe", "sleep": 1}', "sleep"),
    (b'{"kind": "probe", "Sleep": 1}', "Sleep"),
    (b'{"kind": "probe", "sleep_s": "1"}', "sleep_s"),
    (b'{"kind": "probe", "priority": 1.5}', "priority"),
    (b'{"kind": "probe", "sleep_s": NaN}', "sleep_s"),
    (b'{"kind": "probe", "sleep_s": 1e999}', "sleep_s"),
    (b'{"kind": "probe", "priority": ' + b"9" * 5000 + b"}", "(body)"),
    (b'{"kind": "probe", "name": "a\\u0000"}', "name"),
    (b'{"kind": "probe", "name": "\\ud800"}', "(body)"),
    (b'{"kind": "probe", "returns": {"x": "a\\u0000"}}', "returns.x"),
    (b'{"kind": "probe", "returns": {"x": NaN}}', "returns.x"),
    (b'{"kind": "probe", "returns": {"x": []}}', "returns.x"),
    (b'{"kind": "probe", "returns": {"X y": 1}}', "returns.X y"),
    (b'{"kind": "train", "data": {"dataset": "none"}, "model": {"zoo": "mlp"}}', "data"),
    (b'{"kind": "train", "data": {"step": "a"}, "model": {"zoo": "mlp"}}', "data"),
    (b'{"kind": "export", "model": {"model": "none"}}', "model"),
    (b'{"kind": "prepare", "source": "upload://x", "task": "tabular"}', "source"),
    (b'{"kind": "prepare", "source": "upload://00000000-0000-7000-8000-000000000000", "task": "tabular"}', "source"),
    (b'{"kind": "prepare", "source": "file:///etc/passwd", "task": "tabular"}', "source"),
    (b'{"kind": "pipeline", "steps": {}}', "steps"),
    (b'{"kind": "pipeline", "steps": {"a": {"kind": "pipeline"}}}', "steps.a.kind"),
    (b'{"kind": "pipeline", "steps": {"a": {"kind": "probe", "x": 1}}}', "steps.a.x"),
    (b'{"kind": "pipeline", "steps": {"a": {"kind": "export", "model": {"model": "none"}}}}', "steps.a.model"),
    (b'{"kind": "pipeline", "steps": {"a": {"kind": "export", "model": {"step": "b"}}}}', "(body)"),
    (b'{"kind": "pipeline", "steps": {"a": {"kind": "export", "model": {"step": "a"}}}}', "(body)"),
    (pipeline({"a": {"kind": "probe"}, "b": {"kind": "probe"}}, after={"a": ["b"], "b": ["a"]}), "(body)"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {"zoo": "nothing"}}}), "steps.t.model.zoo"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {"zoo": "mlp", "config": {"x": 1}}}}), "steps.t.model.config.x"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {"zoo": "bert"}}}), "steps.t.model.zoo"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {"architecture": "none"}}}), "steps.t.model.architecture"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {"architecture": "bert"}}}), "steps.t.model.architecture"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "hidden": 8.5}}}), "steps.t.model.hidden"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "num_heads": 0}}}), "steps.t.model.num_heads"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "heads": 3, "num_heads": 3}}}), "steps.t.model.num_heads"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "hats": 3}}}), "steps.t.model.hats"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "heads": {}}}}), "steps.t.model.heads"),
    (pipeline({"d": PREPARE, "t": {**TRAIN, "model": {**OWN, "zoo": "vit"}}}), "steps.t.model.zoo"),
]


@pytest.mark.parametrize(("body", "field"), SPECS)
def test_a_bad_spec_is_a_422_that_names_the_field_and_makes_no_job(api: Api, body: bytes, field: str) -> None:
    newest = api.http.get("/v1/jobs", params={"limit": 1}).json()["items"]
    answer = api.http.post("/v1/jobs", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["status"] == 422
    assert answer.json()["errors"][0]["field"].startswith(field), answer.text
    assert "Traceback" not in answer.text
    dry = api.http.post("/v1/jobs/validate", content=body).json()
    assert not dry["valid"]
    assert dry["errors"][0]["field"].startswith(field), dry
    assert api.http.get("/v1/jobs", params={"limit": 1}).json()["items"] == newest


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/jobs?kind=nothing", "kind"),
        ("/v1/jobs?state=nothing", "state"),
        ("/v1/jobs?name=%00", "name"),
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?cursor=x", "cursor"),
        ("/v1/jobs/none", "job_id"),
        ("/v1/datasets?name=%00", "name"),
        ("/v1/models/a%00", "reference"),
        ("/v1/models/a@99999999999", "reference"),
        ("/v1/endpoints/%00", "name"),
        ("/v1/audit?cursor=x", "cursor"),
        ("/v1/audit?cursor=00000000-0000-0000-0000-000000000000:" + "9" * 20, "cursor"),
    ],
)
def test_a_bad_address_is_a_422_that_names_the_field(api: Api, path: str, field: str) -> None:
    answer = api.http.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "path", ["%2e%2e/openapi.json", "models/..%2fhealth", "models/%00", "models/%0a", "models/a%3fb"]
)
def test_a_path_that_the_inference_protocol_does_not_have_goes_no_further(api: Api, path: str) -> None:
    # No inference service runs here: what was passed on would be a 503.
    assert api.http.get(f"/v2/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/validate", "/v1/jobs/batch", "/v1/uploads", "/v1/keys"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused_announced_or_not(api: Api, path: str, announced: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(LARGE // 65_536):
            yield b" " * 65_536

    answer = api.http.post(path, content=b" " * LARGE if announced else pieces())
    assert answer.status_code == 413, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_that_is_none_is_refused(api: Api, key: str) -> None:
    answer = api.http.post("/v1/jobs", json={"kind": "probe"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


def test_what_no_node_can_hold_is_refused_with_the_nearest_that_fits(api: Api) -> None:
    api.hold_node("narrow", slots=3)
    wide = {**TRAIN, "resources": {"ranks": 4}}
    answer = api.http.post("/v1/jobs", content=pipeline({"d": PREPARE, "t": wide}))
    assert answer.status_code == 422
    (finding,) = answer.json()["errors"]
    assert (finding["field"], finding["accepted"]) == ("steps.t.resources.ranks", "1 to 3")


def test_a_key_is_made_once_and_its_secret_is_shown_once(api: Api) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"name": "k", "scopes": ["infer"]}
    first = api.http.post("/v1/keys", json=body, headers=headers).json()
    again = api.http.post("/v1/keys", json=body, headers=headers).json()
    assert again == {**first, "secret": None}
    assert first["secret"]
    assert api.http.post("/v1/keys", json={**body, "name": "other"}, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("TRACE", "/v1/nodes", "GET"),
        ("PUT", "/v1/jobs", "GET, POST"),
        ("GET", "/v1/jobs/batch", "POST"),
        ("PUT", "/v1/endpoints/e", "DELETE, GET"),
    ],
)
def test_a_method_that_is_not_allowed_is_told_those_that_are(api: Api, method: str, path: str, allowed: str) -> None:
    answer = api.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == allowed


def test_a_piece_of_an_upload_holds_something_and_stays_within_what_was_announced(api: Api) -> None:
    made = api.http.post("/v1/uploads", json={"path": "a", "size": 2, "sha256": "0" * 64}).json()
    where, at = f"/v1/uploads/{made['id']}", {"Upload-Offset": "0"}
    empty = api.http.patch(where, headers=at)
    assert empty.status_code == 422
    assert empty.json()["errors"][0]["field"] == "body"
    assert api.http.patch(where, content=b"abc", headers=at).status_code == 409
