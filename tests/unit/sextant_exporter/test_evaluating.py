"""An `evaluate` job against the real inference service, on the model that an `export` job made."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
import uvicorn
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry

from sextant_data_prep import writing
from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Feature, Samples
from sextant_exporter import evaluating, exporting, serving
from sextant_exporter.endpoint import Endpoint
from sextant_inference import api
from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models, Wanted
from sextant_shared.errors import InvalidInput, Unauthenticated, Unavailable, WorkFailed
from sextant_shared.execution.workbench import Workbench

ROWS = 70


def _application(directory: Path) -> FastAPI:
    metrics = InferenceMetrics(CollectorRegistry())
    models = Models(1, metrics)
    models.settled = True

    async def authorise(request: Request) -> str:
        if request.headers.get("authorization") != "Bearer key":
            raise Unauthenticated()
        return request.headers["sextant-tenant"]

    app = api.create(models, authorise, metrics, 1 << 20)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await models.load(Wanted("default", "tables", 1, 1, directory, 32, 0.0))
        yield

    app.router.lifespan_context = lifespan
    return app


@pytest.fixture(scope="module")
def service(exported: Any) -> Iterator[dict[str, str]]:
    """The inference service with the endpoint `tables`: its address and key."""
    config = uvicorn.Config(_application(exported("mlp").out), port=0, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the inference service did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield {"url": f"http://127.0.0.1:{port}", "key": "key", "tenant": "default"}
    server.should_exit = True
    thread.join(5)


@pytest.fixture
def data(exported: Any, tmp_path: Path) -> dict[str, Any]:
    """A dataset version for the model, all rows but two in the test split, labelled at random."""
    rng = np.random.default_rng(5)
    values = serving.sample(exported("mlp").trained.about, ROWS + 2, rng)
    columns = {f"x{i}": values[:, i] for i in range(values.shape[1])}
    labels = rng.integers(0, 3, ROWS + 2)
    names = [Feature(name, "float32") for name in columns]
    samples = Samples(names, columns, [str(x) for x in labels], "y", np.arange(ROWS + 2), Quarantine())
    (tmp_path / "data").mkdir()
    splits = ["train", "val", *["test"] * ROWS]
    writing.write(tmp_path / "data", samples, ["a", "b", "c"], labels, splits, {"task": "tabular"})
    return {"id": "d", "name": "d", "version": 1, "digest": "x", "path": str(tmp_path / "data"), "meta": {}}


@pytest.fixture(autouse=True)
def _few_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "LATENCY_REQUESTS", 5)


def bench_of(make_bench: Any, data: dict[str, Any], service: dict[str, str], endpoint: str, **spec: Any) -> Workbench:
    """The workbench of an `evaluate` job."""
    body = {"endpoint": endpoint, "data": {"dataset": "d"}, **spec}
    bench: Workbench = make_bench("evaluate", {"data": data, "endpoint": endpoint}, service, **body)
    return bench


def test_the_figures_through_the_endpoint_are_those_of_the_model(
    exported: Any, data: dict[str, Any], service: dict[str, str], make_bench: Any
) -> None:
    bench = bench_of(make_bench, data, service, "tables")
    result = evaluating.evaluate(bench)
    values, labels, classes = evaluating.read_split(Path(data["path"]), "test")
    trained = exported("mlp").trained
    with torch.no_grad():
        logits = exporting.load_served(trained.directory, trained.about)(torch.from_numpy(values)).numpy()
    assert classes == ["a", "b", "c"]
    assert result.outputs["rows"] == ROWS
    assert result.outputs["served"] == {"name": "tables", "version": 1}
    assert result.outputs["metrics"]["accuracy"] == (logits.argmax(1) == labels).mean()
    report = json.loads((bench.out / "report.json").read_text())
    assert sum(map(sum, report["confusion"])) == ROWS
    assert report["latency_ms"] == result.outputs["latency_ms"]
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert "tables, test split" in (bench.out / "report.html").read_text()


def test_an_unmet_requirement_fails_the_job_and_leaves_its_report(
    data: dict[str, Any], service: dict[str, str], make_bench: Any
) -> None:
    bench = bench_of(make_bench, data, service, "tables", require={"accuracy": ">= 0.99", "log_loss": "< 1000"})
    with pytest.raises(WorkFailed, match=r"^accuracy is 0\.\d{4}, required >= 0\.99$"):
        evaluating.evaluate(bench)
    assert (bench.out / "report.html").exists()


@pytest.mark.parametrize("answer", [float("nan"), float("inf")])
def test_an_endpoint_that_answers_no_number_fails_the_job_with_the_count(
    data: dict[str, Any], service: dict[str, str], make_bench: Any, monkeypatch: pytest.MonkeyPatch, answer: float
) -> None:
    def infer(endpoint: Endpoint, values: Any) -> Any:
        logits = np.zeros((len(values), 3), np.float32)
        logits[0, 1] = answer
        return logits

    monkeypatch.setattr(Endpoint, "infer", infer)
    batches = -(-ROWS // evaluating.BATCH)
    with pytest.raises(WorkFailed, match=f"'tables' answers NaN or infinity for {batches} of {ROWS} rows"):
        evaluating.evaluate(bench_of(make_bench, data, service, "tables"))


def test_an_endpoint_that_is_not_there_fails_the_job_by_name(
    data: dict[str, Any], service: dict[str, str], make_bench: Any
) -> None:
    with pytest.raises(WorkFailed, match=r"'nope' refused the question \(404\)"):
        evaluating.evaluate(bench_of(make_bench, data, service, "nope"))


def test_a_service_that_does_not_answer_may_be_asked_again(data: dict[str, Any], make_bench: Any) -> None:
    nobody = {"url": "http://127.0.0.1:1", "key": "key", "tenant": "default"}
    with pytest.raises(Unavailable, match="cannot be reached"):
        evaluating.evaluate(bench_of(make_bench, data, nobody, "tables"))


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, Unavailable), (503, Unavailable), (404, Unavailable), (422, WorkFailed), (500, WorkFailed)],
)
def test_an_overloaded_endpoint_may_be_asked_again_and_a_refusal_is_final(status: int, error: type[Exception]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"versions": ["3"]})
        assert request.url.path == "/v2/models/e/versions/3/infer"
        return httpx.Response(status, text="no")

    with httpx.Client(base_url="http://x", transport=httpx.MockTransport(answer)) as client:
        endpoint = Endpoint(client, "e")
        assert endpoint.version == 3
        with pytest.raises(error, match="'e'"):
            endpoint.infer(np.zeros((1, 5), np.float32))


def test_an_empty_split_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    file = Path(data["path"]) / "val-00000.arrow"
    with pa.memory_map(str(file)) as mapped:
        empty = pa.ipc.open_file(mapped).read_all().slice(0, 0)
    file.unlink()
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, empty.schema) as writer:
        writer.write_table(empty)
    with pytest.raises(InvalidInput, match="'val' is empty"):
        evaluating.read_split(Path(data["path"]), "val")


def test_a_split_of_images_has_their_shape_and_type(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 4), np.uint8)
    feature = Feature("image", "uint8", (2, 3, 4))
    samples = Samples([feature], {"image": pixels}, list("ababab"), "class", np.arange(6), Quarantine())
    labels = np.array([0, 1] * 3)
    splits = ["train", "test", "val", "test", "test", "train"]
    writing.write(tmp_path, samples, ["a", "b"], labels, splits, {"task": "image-classification"})
    values, found, classes = evaluating.read_split(tmp_path, "test")
    assert values.dtype == np.uint8
    assert np.array_equal(values, pixels[[1, 3, 4]])
    assert found.tolist() == [1, 1, 0]
    assert classes == ["a", "b"]
