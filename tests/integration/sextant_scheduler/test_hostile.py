"""Requests that mean harm: refused, without an error of ours, a hang, or a word about what is inside."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from sextant_shared.lifecycle.jobs import own_key

from .conftest import Api

PATIENCE_S = 15.0
INSIDE = re.compile(
    r"Traceback|site-packages|\.py\b|sqlalchemy|psycopg|asyncpg|\bSELECT\b|\bINSERT\b|\bFROM\b|pg_|postgres|PGSQL"
    r"|/tmp/|/var/|/home/|/root|/work|/usr/|redis|valkey|nats|127\.0\.0\.1|localhost|uvicorn|starlette|pydantic"
    r"|object at 0x"
)
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HARMLESS = ("/openapi.json", "/docs", "/redoc")


def is_innocent(answer: httpx.Response) -> None:
    """Fail where an answer is an error of ours, or tells of what is inside."""
    if answer.request.url.path in HARMLESS:
        return
    answer.read()
    assert answer.status_code < 500 or answer.status_code in (503, 507), (answer.request.url, answer.text)
    told = answer.text if answer.status_code >= 400 else ""
    sent = answer.request.content.decode(errors="replace") + str(answer.request.url)
    found = [word for word in INSIDE.findall(told) if word not in sent]
    assert not found, (answer.request.url, found, told)
    assert len(told) < 100_000


def watched(api: Api, **rest: Any) -> httpx.Client:
    """A client that looks at every answer."""
    return httpx.Client(base_url=api.http.base_url, timeout=PATIENCE_S, event_hooks={"response": [is_innocent]}, **rest)


@pytest.fixture
def hostile(api: Api) -> Iterator[httpx.Client]:
    """One that may do all."""
    with watched(api, headers=api.http.headers) as client:
        yield client


def raw(api: Api, request: bytes) -> bytes:
    """What a request gets that no client would send."""
    where = urlsplit(str(api.http.base_url))
    with socket.create_connection((where.hostname, where.port or 80), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def status_of(answer: bytes) -> int:
    """Of a raw answer."""
    found = ANSWER.match(answer)
    return int(found[1]) if found else 0


# --- keys

CREDENTIALS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer null"},
    {"Authorization": "Bearer sx__"},
    {"Authorization": "Bearer sx_%00_%00"},
    {"Authorization": "Bearer sx_' OR '1'='1_x"},
    {"Authorization": "Bearer sx_a_b, Bearer sx_c_d"},
    {"Authorization": "Bearer " + "x" * 20_000},
    {"Authorization": "Bearer sx_" + "a" * 100 + "_" + "b" * 80},
    {"Authorization": "Basic YWRtaW46YWRtaW4="},
    {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
    {"Cookie": "session=admin; Authorization=admin"},
    {"X-Api-Key": "admin"},
    {"X-Forwarded-User": "admin", "X-Remote-User": "admin", "X-Forwarded-For": "127.0.0.1"},
    {"Sextant-Tenant": "default"},
]


@pytest.mark.parametrize("headers", CREDENTIALS)
def test_what_is_no_key_opens_nothing(api: Api, headers: dict[str, str]) -> None:
    with httpx.Client(
        base_url=api.http.base_url, timeout=PATIENCE_S, event_hooks={"response": [is_innocent]}
    ) as client:
        for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/keys"), ("GET", "/v2/models/x")):
            assert client.request(method, path, headers=headers).status_code in (400, 401)


def test_a_key_in_the_address_or_body_is_none(api: Api) -> None:
    secret = api.http.headers["Authorization"].removeprefix("Bearer ")
    with httpx.Client(base_url=api.http.base_url) as client:
        for name in ("key", "token", "api_key", "access_token", "Authorization"):
            assert client.get("/v1/jobs", params={name: secret}).status_code == 401
            assert client.post("/v1/jobs", json={"kind": "probe", name: secret}).status_code == 401


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/jobs/"),
        ("GET", "//v1/jobs"),
        ("GET", "/v1//jobs"),
        ("GET", "/V1/JOBS"),
        ("GET", "/v1/Jobs"),
        ("GET", "/v1/jobs;x=1"),
        ("GET", "/v1/jobs%2f"),
        ("GET", "/%76%31/jobs"),
        ("GET", "/v1/./jobs"),
        ("GET", "/v1/health/../jobs"),
        ("GET", "/v1/health/live/../../jobs"),
        ("GET", "/v1/health/live%2f..%2f..%2fjobs"),
        ("GET", "/v1/health/live/%2e%2e/%2e%2e/jobs"),
        ("GET", "/docs/../v1/jobs"),
        ("GET", "/openapi.json/../v1/jobs"),
        ("GET", "http://other.example/v1/jobs"),
        ("GET", "/v1/jobs#/v1/health/live"),
        ("GET", "/v1/jobs?/v1/health/live"),
        ("HEAD", "/v1/jobs"),
        ("OPTIONS", "/v1/jobs"),
        ("OPTIONS", "*"),
        ("TRACE", "/v1/jobs"),
        ("CONNECT", "127.0.0.1:5432"),
        ("PROPFIND", "/v1/jobs"),
        ("get", "/v1/jobs"),
        ("PUT", "/v1/keys"),
        ("DELETE", "/v1/jobs"),
    ],
)
@pytest.mark.parametrize("override", [b"", b"X-HTTP-Method-Override: GET\r\nX-Original-URL: /v1/health/live\r\n"])
def test_no_way_of_writing_an_address_goes_around_the_key(api: Api, method: str, target: str, override: bytes) -> None:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    answer = raw(api, head + override + b"\r\n")
    assert status_of(answer) in (0, 400, 401, 404, 405), answer[:300]
    assert b"items" not in answer
    assert b"location:" not in answer.lower()


def test_a_method_cannot_be_overridden(api: Api) -> None:
    key_id, _ = api.key("jobs:read")
    for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        api.http.get("/v1/keys", headers={header: "DELETE"})
        assert api.http.post(f"/v1/keys/{key_id}?_method=DELETE", headers={header: "DELETE"}).status_code == 405
    listed = {item["id"]: item for item in api.http.get("/v1/keys").json()["items"]}
    assert listed[key_id]["revoked_at"] is None


@pytest.mark.parametrize("scopes", [["jobs:read"], ["infer"], ["data:read", "models:read"]])
def test_a_body_is_not_looked_at_before_the_key_has_the_scope(api: Api, scopes: list[str]) -> None:
    headers = {"Authorization": f"Bearer {api.key(*scopes)[1]}"}
    for path in ("/v1/jobs", "/v1/jobs/batch", "/v1/uploads", "/v1/keys"):
        assert httpx.post(f"{api.http.base_url}{path}", content=b"{", headers=headers).status_code == 403
        assert httpx.post(f"{api.http.base_url}{path}", content=b"{").status_code == 401


# --- paths

PATHS = [
    "../../etc/passwd",
    "a/../../b",
    "%2e%2e%2f%2e%2e%2fetc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "..\\..\\etc\\passwd",
    "..%5c..%5cetc",
    "/etc/passwd",
    "//etc/passwd",
    "//host/share",
    "C:\\x",
    "file:///etc/passwd",
    "a\x00b",
    "\uff0e\uff0e/etc",
    "\u2024\u2024/etc",
    "a#b?c",
    "a\nb",
    "\x1b[31m",
    "~/x",
    "$HOME/x",
    "`id`",
    "a" * 5000,
    "a/" * 2000,
    "con",
    ".",
    "..",
    "",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_in_any_field_leads_nowhere_else(hostile: httpx.Client, path: str) -> None:
    announced = hostile.post("/v1/uploads", json={"path": path, "size": 1, "sha256": "0" * 64})
    assert announced.status_code in (201, 422)
    if announced.status_code == 201:
        assert ".." not in path.split("/")
        assert not path.startswith("/")
    names = ({"name": path}, {"register_as": path})
    for extra in names:
        named = {"kind": "prepare", "source": "package://sklearn/digits", "task": "tabular", **extra}
        assert hostile.post("/v1/jobs", json=named).status_code in ((422,) if path != "con" else (202, 422))
    for source in (f"upload://{path}", f"upload://{uuid4()}/{path}", f"package://{path}", path):
        prepare = {"kind": "prepare", "source": source, "task": "tabular", "target": "y"}
        answer = hostile.post("/v1/jobs/validate", json=prepare)
        assert answer.json()["valid"] is False
    model = {"zoo": path, "weights": f"package://{path}"}
    assert (
        hostile.post("/v1/jobs", json={"kind": "train", "data": {"dataset": path}, "model": model}).status_code == 422
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "where", ["/v1/datasets/{}", "/v1/models/x/files/{}", "/v1/endpoints/{}", "/v1/jobs/{}", "/v2/{}"]
)
def test_a_path_in_an_address_leads_nowhere_else(hostile: httpx.Client, where: str, path: str) -> None:
    try:
        answer = hostile.get(where.format(path))
    except httpx.InvalidURL:
        return
    # Clients take a dot out: what is left is the list.
    assert answer.status_code in (400, 401, 404, 405, 414, 422, 503) or path == "."
    assert "root:" not in answer.text


ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:127.0.0.1]/",
    "http://0x7f000001/",
    "http://127.1/",
    "http://2130706433/",
    "http://localhost./",
    "https://example.org@127.0.0.1/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://127.0.0.1/x",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "FILE:///etc/passwd",
    "s3://bucket/key",
    "nats://127.0.0.1:4222",
    "redis://127.0.0.1:6379",
    "postgresql://127.0.0.1/x",
    "dict://127.0.0.1:11211/",
    "jar:file:///x!/y",
    "data:text/csv,a",
    "upload://http://127.0.0.1/",
    "package://http://127.0.0.1/",
    "package://os/system",
    "package://../../etc/passwd",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_fetched_from_an_address(hostile: httpx.Client, address: str) -> None:
    # Two forms of source are accepted, and neither is an address: there is nothing that could be led astray.
    body = {"kind": "prepare", "source": address, "task": "tabular", "target": "y"}
    if not address.startswith("package://"):
        answer = hostile.post("/v1/jobs", json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "source"
    weights: dict[str, Any] = {
        "kind": "train",
        "data": {"dataset": "d"},
        "model": {"zoo": "resnet18", "weights": address},
    }
    assert hostile.post("/v1/jobs", json=weights).status_code == 422


# --- bodies

PICKLE = b"cposix\nsystem\n(S'id'\ntR."
HUGE = 2**63
BODIES: list[tuple[bytes, set[int]]] = [
    (b'{"kind": "probe", "sleep_s": NaN}', {422}),
    (b'{"kind": "probe", "sleep_s": Infinity}', {422}),
    (b'{"kind": "probe", "sleep_s": -Infinity}', {422}),
    (b'{"kind": "probe", "sleep_s": 1e400}', {422}),
    (b'{"kind": "probe", "priority": %d}' % HUGE, {422}),
    (b'{"kind": "probe", "returns": {"x": %d}}' % HUGE, {202}),
    (b'{"kind": "probe", "returns": {"x": -%d}}' % 10**400, {202, 422}),
    (b'{"kind": "probe", "returns": {"x": 1e308}}', {202}),
    (b'{"kind": "probe", "returns": {"x": 1e-400}}', {202}),
    (b'{"kind": "probe", "returns": {"x": "\\u0000"}}', {422}),
    (b'{"kind": "probe", "returns": {"x": "\\ud800"}}', {422}),
    (b'{"kind": "probe", "returns": {"x": "\xed\xa0\x80"}}', {422}),
    (b'{"kind": "probe", "returns": {"x": "\xff"}}', {422}),
    (b'{"kind": "probe", "returns": {"x": "\\u202e\\u0007\\u001b[2J"}}', {202}),
    (b'{"kind": "probe", "name": "a\\nb"}', {422}),
    (b'{"kind": "probe", "kind": "pipeline"}', {422}),
    (b'{"kind": "pipeline", "kind": "probe"}', {202}),
    (b'{"kind": "probe", "__proto__": {"admin": true}}', {422}),
    (b'{"kind": "probe", "tenant": "other"}', {422}),
    (b'{"kind": "probe", "id": "00000000-0000-0000-0000-000000000000"}', {422}),
    (b'{"kind": "probe", "state": "SUCCEEDED"}', {422}),
    (b'{"kind": ["probe"]}', {422}),
    (b'{"kind": {"$ne": null}}', {422}),
    (b'{"kind": null}', {422}),
    (b'{"kind": "probe"}{"kind": "probe"}', {422}),
    (b'{"kind": "probe",}', {422}),
    (b"// x\n{}", {422}),
    (b"\xef\xbb\xbf" + b'{"kind": "probe"}', {202, 422}),
    ('{"kind": "probe"}'.encode("utf-16"), {422}),
    (b"!!python/object/apply:os.system ['id']", {422}),
    (b"[" * 100_000, {422}),
    (b'{"a":' * 100_000, {422}),
    (b'{"kind": "probe", "retry": ' + b"[" * 65 + b"]" * 65 + b"}", {422}),
    (json.dumps({"kind": "probe", **{f"k{n}": n for n in range(10_000)}}).encode(), {422}),
    (json.dumps({"kind": "probe", "returns": {f"k{n}": n for n in range(10_000)}}).encode(), {422}),
    (json.dumps({"kind": "probe", "x" * 100_000: 1}).encode(), {422}),
    (json.dumps({"kind": "probe", "name": "x" * 1_000_000}).encode(), {422}),
    (b'{"kind": "probe", "kind": "probe", ' + b'"priority": 1, ' * 10_000 + b'"priority": 2}', {202}),
    (gzip.compress(b" " * 50_000_000), {422}),
    (
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
        {422},
    ),
]


@pytest.mark.parametrize(("body", "accepted"), BODIES)
def test_a_body_is_json_of_the_form_that_is_described_or_refused(
    hostile: httpx.Client, body: bytes, accepted: set[int]
) -> None:
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {})
    answer = hostile.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code in accepted, answer.text[:500]
    dry = hostile.post("/v1/jobs/validate", content=body, headers=headers)
    assert dry.status_code in (200, 422)
    for path in ("/v1/jobs/batch", "/v1/uploads", "/v1/keys"):
        assert hostile.post(path, content=body, headers=headers).status_code in (400, 422)


@pytest.mark.parametrize(
    "kind", ["application/x-pickle", "application/vnd.x.pickle", "text/yaml", "multipart/form-data", "x"]
)
def test_the_content_type_makes_nothing_else_of_a_body(hostile: httpx.Client, kind: str) -> None:
    for path in ("/v1/jobs", "/v1/jobs/batch", "/v1/uploads", "/v1/keys"):
        for body in (PICKLE, b"kind: probe", b"kind=probe"):
            assert hostile.post(path, content=body, headers={"Content-Type": kind}).status_code in (400, 422)


def test_the_last_of_doubled_fields_counts_everywhere(hostile: httpx.Client) -> None:
    job = hostile.post("/v1/jobs", content=b'{"kind": "probe", "priority": 1, "priority": 2}').json()["id"]
    assert hostile.get(f"/v1/jobs/{job}").json()["priority"] == 2
    doubled = b'{"jobs": [{"kind": "probe", "priority": 1, "priority": 2}]}'
    batch = hostile.post("/v1/jobs/batch", content=doubled, headers={"Content-Type": "application/json"})
    assert hostile.get(f"/v1/jobs/{batch.json()['items'][0]['id']}").json()["priority"] == 2


def test_tiny_chunks_without_a_length_are_a_body(api: Api) -> None:
    head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    head += f"Authorization: {api.http.headers['Authorization']}\r\n\r\n"
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"kind": "probe", ' + b" " * 200_000 + b'"priority": 1}')
    assert status_of(raw(api, head.encode() + body + b"0\r\n\r\n")) == 202


SMUGGLED = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"Content-Length: 0x10\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nx",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"X: a\r\n b\r\n\r\n",
    b"X\x00Y: a\r\n\r\n",
    b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    b"".join(b"X%d: y\r\n" % number for number in range(20_000)) + b"\r\n",
    b"\r\n\r\n",
    b"\x00" * 1000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("rest", SMUGGLED)
def test_what_is_hardly_http_is_refused_and_nothing_gets_through(api: Api, rest: bytes) -> None:
    try:
        answer = raw(api, b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + rest)
    except (ConnectionResetError, BrokenPipeError):
        answer = b""
    assert status_of(answer) in (0, 400, 401, 408, 413, 431), answer[:300]
    assert answer.count(b"HTTP/1.1 ") <= 1 or b"401" in answer
    assert api.http.get("/v1/health/live").status_code == 200


# --- numbers in other places


@pytest.mark.parametrize("number", [str(HUGE), "-1", "1e3", "0x10", "9" * 5000, "NaN", "", "1;2", "\u0661"])
@pytest.mark.parametrize("name", ["limit", "tail", "cursor", "parent"])
def test_a_number_in_an_address_is_one_or_refused(hostile: httpx.Client, name: str, number: str) -> None:
    path = f"/v1/jobs/{uuid4()}/logs" if name == "tail" else "/v1/jobs"
    assert hostile.get(path, params={name: number}).status_code == 422


@pytest.mark.parametrize("offset", [str(HUGE), "-1", "9" * 400, "x", "1.5", ""])
def test_an_offset_is_one_or_refused(hostile: httpx.Client, offset: str) -> None:
    made = hostile.post("/v1/uploads", json={"path": "a", "size": 2, "sha256": "0" * 64}).json()
    answer = hostile.patch(f"/v1/uploads/{made['id']}", content=b"a", headers={"Upload-Offset": offset})
    assert answer.status_code in (409, 422)


@pytest.mark.parametrize("size", [0, -1, HUGE, 2**40 + 1, 1.5, "1", None, True])
def test_a_size_is_one_or_refused(hostile: httpx.Client, size: Any) -> None:
    body = {"path": "a", "size": size, "sha256": "0" * 64}
    assert hostile.post("/v1/uploads", json=body).status_code == 422


MANY: list[dict[str, Any]] = [
    {"trials": 10**6},
    {"parallel": 10**6},
    {"space": {f"p{number}": {"low": 0.0, "high": 1.0} for number in range(65)}},
    {"space": {"learning_rate": {"choices": list(range(101))}}},
    {"space": {"learning_rate": {"low": 1.0, "high": 0.0}}},
    {"space": {"batch_size": {"type": "int", "low": -HUGE * 2, "high": HUGE * 2}}},
    {"resources": {"ranks": 10**6}},
    {"config": {"epochs": 10**9}},
    {"config": {"batch_size": HUGE}},
    {"retry": {"max_attempts": 10**6}},
    {"retry": {"backoff_s": -1.0}},
]


@pytest.mark.parametrize("changes", MANY)
def test_a_search_is_bounded_in_every_number(hostile: httpx.Client, changes: dict[str, Any]) -> None:
    body = {"kind": "tune", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "maximize": "accuracy", **changes}
    assert hostile.post("/v1/jobs", json=body).status_code == 422


def test_a_pipeline_is_bounded(hostile: httpx.Client) -> None:
    steps = {f"s{number}": {"kind": "probe"} for number in range(257)}
    assert hostile.post("/v1/jobs", json={"kind": "pipeline", "steps": steps}).status_code == 422
    assert hostile.post("/v1/jobs/batch", json={"jobs": [{"kind": "probe"}] * 1001}).status_code == 422


# --- idempotency keys

KEYS = ["x" * 256, "x" * 10_000, "", " ", "a\x00b", "\u00e9", "a\tb", "'; DROP TABLE jobs; --", "../../x", "auto/x"]


@pytest.mark.parametrize("key", KEYS)
def test_an_idempotency_key_is_a_name_and_nothing_else(api: Api, key: str) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 17\r\nIdempotency-Key: {key}\r\n"
    request = f"{head}Authorization: {api.http.headers['Authorization']}\r\n\r\n" + '{"kind": "probe"}'
    answer = raw(api, request.encode())
    assert status_of(answer) in (200, 202, 400, 422), answer[:300]
    assert not INSIDE.search(answer.partition(b"\r\n\r\n")[2].decode(errors="replace"))


def test_an_idempotency_key_of_a_client_is_none_of_the_platform(api: Api) -> None:
    own = own_key(uuid4(), "a")
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 17\r\nIdempotency-Key: {own}\r\n"
    request = f"{head}Authorization: {api.http.headers['Authorization']}\r\n\r\n" + '{"kind": "probe"}'
    assert status_of(raw(api, request.encode())) == 422
    assert status_of(raw(api, request.encode("latin-1"))) == 422
