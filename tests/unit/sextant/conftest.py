"""A small real server that answers by the API's contract, and can be told to fail."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

NOW = "2026-01-02T03:04:05Z"
KEY = "sx_test_secret"


@dataclass
class World:
    """What the server has, what it was asked, and how it shall fail."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    file_names: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    busy: int = 0
    lose_answers: int = 0
    lose_pieces: int = 0
    cut_files: int = 0
    cut_streams: int = 0
    ends_as: str = "SUCCEEDED"
    ignores_ranges: bool = False

    def job(self, spec: dict[str, Any]) -> dict[str, Any]:
        made = str(uuid4())
        kind = spec["kind"]
        self.jobs[made] = {
            "id": made, "kind": kind, "name": spec.get("name", kind), "state": "QUEUED", "root_id": made,
            "spec": spec, "created_at": NOW, "created_by": "tests",
        }  # fmt: skip
        if kind == "pipeline":
            self.jobs[made]["steps"] = [
                {"id": str(uuid4()), "kind": step["kind"], "name": name, "step": name, "state": "BLOCKED",
                 "root_id": made, "parent_id": made, "created_at": NOW}
                for name, step in spec["steps"].items()
            ]  # fmt: skip
        return self.jobs[made]

    def end(self, job: dict[str, Any]) -> None:
        for one in [*(job.get("steps") or []), job]:
            one["state"] = self.ends_as
            one["started_at"] = one["finished_at"] = NOW
            if self.ends_as == "FAILED":
                one["error"] = {"message": f"{one['name']} broke \x1b[31mbadly"}


def problem(status: int, title: str, detail: str, errors: list[dict[str, Any]] | None = None) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "errors": errors or []}
    return JSONResponse(body, status, {"Retry-After": "0"}, "application/problem+json")


def faults(spec: Any) -> list[dict[str, Any]]:
    known = {"kind", "name", "sleep_s", "outcome", "returns", "steps", "seed", "priority"}
    found = [
        {"field": name, "message": "Extra inputs are not permitted", "given": repr(spec[name]), "accepted": None}
        for name in spec
        if name not in known
    ]
    if spec.get("kind") not in ("probe", "pipeline", "train"):
        accepted = "'probe', 'pipeline'"
        found.append(
            {"field": "kind", "message": "unknown kind", "given": repr(spec.get("kind")), "accepted": accepted}
        )
    return found


def build(world: World) -> FastAPI:
    app = FastAPI()
    _add_gate(app, world)
    _add_jobs(app, world)
    _add_stream(app, world)
    _add_uploads(app, world)
    _add_versions(app, world)
    _add_rest(app, world)
    return app


def _add_gate(app: FastAPI, world: World) -> None:
    @app.middleware("http")
    async def gate(request: Request, call_next: Any) -> Response:
        world.seen.append((request.method, request.url.path, dict(request.headers)))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return problem(401, "Unauthorized", "A valid API key is needed")
        if world.busy > 0:
            world.busy -= 1
            return problem(503, "Service Unavailable", "later")
        response: Response = await call_next(request)
        kind = "lose_pieces" if request.method == "PATCH" else "lose_answers"
        if request.method != "GET" and getattr(world, kind) > 0:
            setattr(world, kind, getattr(world, kind) - 1)

            async def nothing() -> AsyncIterator[bytes]:
                raise ConnectionResetError("the answer is lost")
                yield b""

            return StreamingResponse(nothing(), headers={"Content-Length": "1000"})
        return response


def _add_jobs(app: FastAPI, world: World) -> None:
    @app.post("/v1/jobs", status_code=202)
    async def submit(request: Request) -> Any:
        spec = await request.json()
        world.bodies.append(spec)
        if found := faults(spec):
            return problem(422, "Unprocessable Content", found[0]["message"], found)
        key = request.headers["idempotency-key"]
        if key not in world.replies:
            world.replies[key] = world.job(spec)
        return world.replies[key]

    @app.post("/v1/jobs/batch", status_code=202)
    async def batch(request: Request) -> Any:
        return {"items": [world.job(spec) for spec in (await request.json())["jobs"]]}

    @app.post("/v1/jobs/validate")
    async def validate(request: Request) -> Any:
        found = faults(await request.json())
        return {"valid": not found, "errors": found, "warnings": []}

    @app.get("/v1/jobs")
    async def jobs(state: str | None = None, cursor: int = 0) -> Any:
        items = [job for job in world.jobs.values() if state in (None, job["state"])]
        page = items[cursor : cursor + 2]
        return {"items": page, "next": str(cursor + 2) if cursor + 2 < len(items) else None}

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: UUID) -> Any:
        return world.jobs.get(str(job_id)) or problem(404, "Not Found", f"no job {job_id}")

    _add_job_details(app, world)


def _add_job_details(app: FastAPI, world: World) -> None:
    @app.get("/v1/jobs/{job_id}/logs")
    async def logs(job_id: UUID) -> Any:
        return {"items": [{"job_id": str(job_id), "step": "train", "text": "epoch 1\nepoch 2"}]}

    @app.get("/v1/jobs/{job_id}/why")
    async def why(job_id: UUID) -> Any:
        reasons = [{"rule": "slots", "message": "no slot is free", "remedy": "start another node"}]
        return {"id": str(job_id), "state": "QUEUED", "reasons": reasons}

    @app.post("/v1/jobs/{job_id}/cancel", status_code=202)
    async def cancel(job_id: UUID, request: Request) -> Any:
        job = world.jobs[str(job_id)]
        if job["state"] == "SUCCEEDED":
            return problem(409, "Conflict", "the job has ended")
        world.bodies.append(await request.json())
        job["state"] = "CANCELLED"
        return job

    @app.post("/v1/jobs/{job_id}/{verb}", status_code=202)
    async def command(job_id: UUID, verb: str) -> Any:
        return world.jobs[str(job_id)]


def _add_stream(app: FastAPI, world: World) -> None:
    @app.get("/v1/jobs/{job_id}/stream")
    async def stream(job_id: UUID) -> Any:
        job = world.jobs.get(str(job_id))
        if job is None:
            return problem(404, "Not Found", f"no job {job_id}")
        return StreamingResponse(_events(world, job), media_type="text/event-stream")


async def _events(world: World, job: dict[str, Any]) -> AsyncIterator[str]:
    def event(name: str, body: dict[str, Any]) -> str:
        return f"event: {name}\ndata: {json.dumps(body)}\n\n"

    family = [job, *(job.get("steps") or [])]
    for one in family:
        yield event("state", {**one, "at": NOW, "unknown": 1})
    yield ": still here\n\n"
    yield event("of-a-newer-server", {"x": 1})
    for one in family[1:]:
        yield event("state", {**one, "state": "RUNNING", "at": NOW})
        yield event("progress", {"job_id": one["id"], "at": NOW, "fraction": 0.5, "metrics": {"val_accuracy": 0.97}})
    if world.cut_streams > 0:
        world.cut_streams -= 1
        raise ConnectionResetError("cut")
    yield event("log", {"job_id": job["id"], "step": "train", "text": "live line"})
    world.end(job)
    for one in family:
        yield event("state", {**one, "at": NOW})
    yield event("end", {"id": job["id"], "state": job["state"]})


def _add_uploads(app: FastAPI, world: World) -> None:
    @app.post("/v1/uploads", status_code=201)
    async def create(request: Request) -> Any:
        body, key = await request.json(), request.headers["idempotency-key"]
        if key not in world.replies:
            made = str(uuid4())
            world.uploads[made] = {**body, "id": made, "received": 0, "completed": False, "uri": f"upload://{made}"}
            world.content[made] = b""
            world.replies[key] = dict(world.uploads[made])
        return world.replies[key]

    @app.get("/v1/uploads/{upload_id}")
    async def get(upload_id: UUID) -> Any:
        return world.uploads.get(str(upload_id)) or problem(404, "Not Found", "no upload")

    @app.patch("/v1/uploads/{upload_id}")
    async def append(upload_id: str, request: Request) -> Any:
        upload, piece = world.uploads[upload_id], await request.body()
        if int(request.headers["upload-offset"]) != upload["received"]:
            return problem(409, "Conflict", f"the file has {upload['received']} bytes")
        world.content[upload_id] += piece
        upload["received"] += len(piece)
        if upload["received"] == upload["size"]:
            if hashlib.sha256(world.content[upload_id]).hexdigest() != upload["sha256"]:
                return problem(422, "Unprocessable Content", "the bytes do not have the announced hash")
            upload["completed"] = True
        return upload


def _add_versions(app: FastAPI, world: World) -> None:
    def version() -> dict[str, Any]:
        files = [
            {"path": world.file_names.get(name, name), "size": len(c), "sha256": hashlib.sha256(c).hexdigest()}
            for name, c in world.files.items()
        ]
        meta = {"task": "image-classification"}
        return {"id": str(uuid4()), "name": "digits", "version": 3, "digest": "ab" * 32, "job_id": str(uuid4()),
                "files": files, "meta": meta, "created_at": NOW}  # fmt: skip

    @app.get("/v1/models")
    @app.get("/v1/datasets")
    async def versions() -> Any:
        return {"items": [version()], "next": None}

    @app.get("/v1/models/{reference}")
    async def one(reference: str) -> Any:
        known = reference in ("digits", "digits@3")
        return version() if known else problem(404, "Not Found", f"no model {reference}")

    @app.get("/v1/models/{reference}/files/{path:path}")
    async def file(reference: str, path: str, request: Request) -> Any:
        content = world.files[path]
        header = request.headers.get("range")
        offset = int(header.removeprefix("bytes=").removesuffix("-")) if header and not world.ignores_ranges else 0
        cut = world.cut_files > 0
        world.cut_files -= cut

        async def chunks() -> AsyncIterator[bytes]:
            rest = content[offset:]
            if cut:
                yield rest[: len(rest) // 2]
                raise ConnectionResetError("cut")
            yield rest

        headers = {"Content-Length": str(len(content) - offset)}
        return StreamingResponse(chunks(), 206 if offset else 200, headers)


def _add_rest(app: FastAPI, world: World) -> None:
    @app.get("/v2/models/{name}")
    async def model(name: str) -> Any:
        inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2]}]
        return {"name": name, "inputs": inputs, "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}]}

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: Request) -> Any:
        body = await request.json()
        world.bodies.append(body)
        if name != "digits":
            return JSONResponse({"error": f"no model {name}"}, 404)
        rows = body["inputs"][0]["shape"][0]
        output = {"name": "scores", "datatype": "FP32", "shape": [rows, 2], "data": [0.25, 0.75] * rows}
        return {"model_name": name, "outputs": [output]}

    @app.post("/v1/keys", status_code=201)
    async def key(request: Request) -> Any:
        body = await request.json()
        return {**body, "id": str(uuid4()), "prefix": "abc", "created_at": NOW, "secret": "sx_abc_s3cret"}

    @app.post("/v1/keys/{key_id}/rotate", status_code=201)
    async def rotate(key_id: str, request: Request) -> Any:
        overlap_s = (await request.json())["overlap_s"]
        secret = f"sx_new_{overlap_s}"
        return {"id": str(uuid4()), "name": "ci", "scopes": [], "prefix": "new", "created_at": NOW, "secret": secret}

    @app.get("/v1/nodes")
    async def nodes() -> Any:
        return problem(403, "Forbidden", "This API key lacks the scope for this.")

    @app.get("/v1/version")
    async def version() -> Any:
        return {"version": "9.9.9"}


@dataclass
class Served:
    url: str
    world: World


@pytest.fixture(scope="session")
def _server() -> Iterator[tuple[str, Any]]:
    holder: dict[str, Any] = {"app": FastAPI()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await holder["app"](scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the test server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", holder
    server.should_exit = True
    thread.join(5)


@pytest.fixture
def served(_server: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Served:
    """The server with an empty world; the environment points at it."""
    url, holder = _server
    world = World()
    holder["app"] = build(world)
    monkeypatch.setenv("SEXTANT_URL", url)
    monkeypatch.setenv("SEXTANT_API_KEY", KEY)
    monkeypatch.setenv("SEXTANT_HOME", str(tmp_path / "home"))
    return Served(url, world)
