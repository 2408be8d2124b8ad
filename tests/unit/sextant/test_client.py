"""The client against a real server that answers by the contract."""

from __future__ import annotations

import asyncio
import inspect
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

import sextant
from sextant import AsyncClient, Client, PipelineSpec, ProbeSpec
from sextant.errors import AccessRefused, BadInput, InvalidRequest, JobFailed, NotFound, NotReachable, TimedOut

PROBE = {"kind": "probe", "name": "p"}


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = {name: m for name, m in vars(kind).items() if inspect.isfunction(m) and not name.startswith("_")}
        return {name: [str(p) for p in inspect.signature(m).parameters.values()] for name, m in methods.items()}

    assert public(Client) == public(AsyncClient)


def test_every_exported_name_can_be_loaded() -> None:
    assert set(sextant.__all__) == set(sextant._HOMES)
    assert all(getattr(sextant, name) is not None for name in sextant.__all__)


def test_a_spec_in_python_is_the_same_request_as_in_a_file(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("name: two\nsteps:\n  a: {kind: probe, sleep_s: 1e-3}\n  b: {kind: probe}\n")
    steps: dict[str, Any] = {"a": ProbeSpec(sleep_s=1e-3), "b": ProbeSpec()}
    with Client() as client:
        client.submit(file)
        client.submit(PipelineSpec(name="two", steps=steps))
    first, second = served.world.bodies
    assert first == second == {"kind": "pipeline", "name": "two", "steps": {
        "a": {"kind": "probe", "sleep_s": 0.001}, "b": {"kind": "probe"}}}  # fmt: skip


def test_a_busy_server_and_a_lost_answer_give_one_job(served: Any) -> None:
    served.world.busy, served.world.lose_answers = 2, 1
    with Client() as client:
        job = client.submit(PROBE)
    assert list(served.world.jobs) == [str(job.id)]
    keys = {headers["idempotency-key"] for method, path, headers in served.world.seen if method == "POST"}
    assert len(keys) == 1
    assert len(served.world.seen) == 4


def test_retries_are_bounded(served: Any) -> None:
    served.world.busy = 100
    with Client(retries=1) as client, pytest.raises(sextant.ApiError) as caught:
        client.submit(PROBE)
    assert caught.value.status == 503
    assert len(served.world.seen) == 2


def test_a_key_is_never_made_twice_by_a_retry(served: Any) -> None:
    served.world.lose_answers = 1
    with Client() as client, pytest.raises(NotReachable):
        client.create_key("ci", ["jobs:read"])
    assert len(served.world.seen) == 1


def test_findings_come_with_the_error(served: Any) -> None:
    with Client() as client, pytest.raises(InvalidRequest) as caught:
        client.submit({"kind": "probe", "slep_s": 1})
    assert [f.field for f in caught.value.findings] == ["slep_s"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1, 2}])
def test_what_json_cannot_say_is_refused_here(served: Any, value: Any) -> None:
    with Client() as client, pytest.raises(BadInput):
        client.submit({"kind": "probe", "returns": {"a": value}})
    assert served.world.seen == []


def test_lists_go_over_all_pages(served: Any) -> None:
    with Client() as client:
        made = client.submit_many([PROBE] * 5)
        assert [job.id for job in client.jobs()] == [job.id for job in made]


def test_wait_ends_with_the_job_and_tells_its_failure(served: Any) -> None:
    with Client() as client:
        job = client.submit(PROBE)
        with pytest.raises(TimedOut):
            client.wait(job, timeout=0.05)
        served.world.ends_as = "FAILED"
        served.world.end(served.world.jobs[str(job.id)])
        with pytest.raises(JobFailed, match="p broke"):
            client.wait(job)
        assert client.wait(job, check=False).state == "FAILED"


def test_stream_goes_on_over_a_cut_connection_to_the_end(served: Any) -> None:
    served.world.cut_streams = 1
    with Client() as client:
        job = client.submit({"name": "two", "steps": {"a": {"kind": "probe"}}})
        events = list(client.stream(job))
    assert events[-1] == sextant.EndEvent(id=job.id, state="SUCCEEDED")
    assert [e.text for e in events if isinstance(e, sextant.LogEvent)] == ["live line"]
    assert [e.metrics for e in events if isinstance(e, sextant.ProgressEvent)] == [{"val_accuracy": 0.97}] * 2
    assert [path for _, path, _ in served.world.seen].count(f"/v1/jobs/{job.id}/stream") == 2


def test_stream_of_an_unknown_job_is_not_tried_again(served: Any) -> None:
    with Client() as client, pytest.raises(NotFound):
        list(client.stream("0190f5b0-0000-7000-8000-000000000000"))
    assert len(served.world.seen) == 1


def test_an_id_that_is_none_is_refused_here(served: Any) -> None:
    with Client() as client, pytest.raises(BadInput, match="is no id"):
        client.job("../keys")


def test_no_server_is_told_with_its_url() -> None:
    with (
        Client("http://127.0.0.1:9", "sx_k", retries=1) as client,
        pytest.raises(NotReachable, match=r"127\.0\.0\.1:9"),
    ):
        client.job("0190f5b0-0000-7000-8000-000000000000")


def test_a_wrong_key_is_refused(served: Any) -> None:
    with Client(served.url, "sx_other") as client, pytest.raises(AccessRefused):
        list(client.jobs())


def test_predict_fills_in_names_and_types(served: Any) -> None:
    with Client() as client:
        one = client.predict("digits", [[1, 2], [3, 4]])
        two = client.predict("digits", {"image": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]})
        with pytest.raises(BadInput, match="ragged"):
            client.predict("digits", [[1, 2], [3]])
        with pytest.raises(BadInput, match="the endpoint takes"):
            client.predict("digits", {"picture": [[1]]})
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
    assert served.world.bodies[0] == {"inputs": [tensor]}
    assert one["scores"] == [[0.25, 0.75]]
    assert two["scores"] == [[0.25, 0.75], [0.25, 0.75]]


def test_the_async_client_does_the_same(served: Any, tmp_path: Path) -> None:
    served.world.busy, served.world.cut_streams, served.world.cut_files, served.world.lose_answers = 1, 1, 1, 1
    served.world.files = {"model.json": b"{}", "sub/model.safetensors": bytes(range(256)) * 5000}
    data = tmp_path / "raw.csv"
    data.write_bytes(b"a,b\n" * 1000)

    async def main() -> None:
        async with AsyncClient() as client:
            job = await client.submit(PROBE)
            events = [event async for event in client.stream(job)]
            assert isinstance(events[-1], sextant.EndEvent)
            assert (await client.wait(job)).state == "SUCCEEDED"
            assert [one.id async for one in client.jobs()] == [job.id]
            assert (await client.push(data)).completed
            pulled = await client.pull("digits", tmp_path / "model")
            assert [p.read_bytes() for p in pulled.files] == list(served.world.files.values())
            assert (await client.predict("digits", [[1, 2], [3, 4]]))["scores"] == [[0.25, 0.75]]
            assert (await client.logs(job))[0].step == "train"

    asyncio.run(main())


def test_push_of_a_directory_is_a_tar_that_any_tool_reads(served: Any, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    deep = folder / ("d" * 120) / ("ü" * 60)
    deep.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"x" * 1000)
    (deep / "b.bin").write_bytes(b"y" * 512)
    (folder / "empty").write_bytes(b"")
    with Client() as client:
        view = client.push(folder)
        again = client.push(folder)
    assert view.path == "images.tar"
    assert again.id == view.id
    with tarfile.open(fileobj=io.BytesIO(served.world.content[str(view.id)])) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    expected = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == expected


def test_push_goes_on_where_it_was_cut_off(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sextant._flows.PIECE", 1000)
    file = tmp_path / "raw.bin"
    file.write_bytes(bytes(range(250)) * 20)
    with Client(retries=0) as client:
        served.world.lose_answers, served.world.lose_pieces = 1, 2
        with pytest.raises(NotReachable):
            client.push(file)  # not even the announcement's answer came
        told: list[int] = []
        view = client.push(file, lambda name, done, total: told.append(done))
    assert view.completed
    assert served.world.content[str(view.id)] == file.read_bytes()
    assert len(served.world.uploads) == 1
    # Two answers to pieces were lost, and both pieces had arrived: five pieces in all, none sent twice.
    assert [path for method, path, _ in served.world.seen if method == "PATCH"] == [f"/v1/uploads/{view.id}"] * 5
    assert told == [0, 1000, 2000, 3000, 4000, 5000]


@pytest.mark.parametrize("make", ["missing", "empty", "folder", "dangling"])
def test_push_of_nothing_is_refused(served: Any, tmp_path: Path, make: str) -> None:
    path = tmp_path / "x"
    if make == "empty":
        path.touch()
    elif make == "folder":
        path.mkdir()
    elif make == "dangling":
        path.mkdir()
        (path / "link").symlink_to(tmp_path / "nowhere")
    with Client() as client, pytest.raises(BadInput):
        client.push(path)
    assert served.world.seen == []


def test_pull_goes_on_where_it_was_interrupted_and_where_it_was_cut_off(served: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20000
    served.world.files = {"model.safetensors": content}

    def interrupt(file: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with Client() as client, pytest.raises(KeyboardInterrupt):
        client.pull("digits", tmp_path / "m", progress=interrupt)
    served.world.cut_files = 1
    part = tmp_path / "m" / "model.safetensors.part"
    assert 0 < part.stat().st_size < len(content)
    with Client() as client:
        pulled = client.pull("digits", tmp_path / "m")
        requests = len(served.world.seen)
        client.pull("digits", tmp_path / "m")
    assert pulled.files[0].read_bytes() == content
    assert not part.exists()
    ranges = [headers.get("range") for _, path, headers in served.world.seen if "/files/" in path]
    assert ranges[0] is None
    assert len(ranges) == 3
    assert all(ranges[1:])
    assert len(served.world.seen) == requests + 1, "a file that is there is not fetched again"


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_pull_over_a_wrong_beginning_starts_anew(served: Any, tmp_path: Path, ignores_ranges: bool) -> None:
    served.world.files, served.world.ignores_ranges = {"model.json": b"the right content"}, ignores_ranges
    (tmp_path / "model.json.part").write_bytes(b"wrong")
    with Client() as client:
        pulled = client.pull("digits", tmp_path)
    assert pulled.files[0].read_bytes() == b"the right content"


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "link/evil", ".", "c:\\evil"])
def test_pull_writes_nothing_outside_the_directory(served: Any, tmp_path: Path, path: str) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    served.world.files, served.world.file_names = {"x": b"evil"}, {"x": path}
    with Client() as client, pytest.raises(sextant.TransferFailed):
        client.pull("digits", target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    assert [p.name for p in target.iterdir()] == ["link"]
