"""Batches, and changes of what is served while requests come in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sextant_inference.runtime.batcher import Batcher, Tensors
from sextant_inference.runtime.models import Models
from sextant_shared.errors import InvalidInput, NotFound, RateLimited, Unavailable

from .conftest import MakeModel, wanted

ROW = np.array([[1, 2, 3]], np.float32)


class Held:
    """A model whose runs wait until they may go on; it doubles, and remembers the size of each batch."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_run = threading.Event()

    def run(self, tensors: Tensors) -> list[Any]:
        """One batch."""
        self.sizes.append(len(tensors["x"]))
        assert self.may_run.wait(10)
        if (tensors["x"] < 0).any():
            raise ValueError("negative")
        return [2 * tensors["x"]]

    def batcher(self, **settings: Any) -> Batcher:
        """Of this model."""
        arguments = {"max_rows": 4, "max_wait_s": 0.0, **settings}
        return Batcher(self.run, ThreadPoolExecutor(1), observe=lambda *_: None, **arguments)


def rows(*values: float) -> Tensors:
    """A request."""
    return {"x": np.array(values, np.float32)[:, None]}


async def held(model: Held, batcher: Batcher, requests: list[Tensors]) -> list[Any]:
    """The answers to requests that all came while the first one ran; errors among them."""
    tasks = [asyncio.create_task(batcher.infer(request)) for request in requests]
    while not model.sizes:
        await asyncio.sleep(0.001)
    model.may_run.set()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def test_what_waits_goes_together_in_order_up_to_the_largest_batch() -> None:
    model = Held()
    requests = [rows(1), rows(2), rows(3, 4), rows(5), rows(6, 7, 8, 9, 10)]
    answers = asyncio.run(held(model, model.batcher(), requests))
    assert model.sizes == [4, 1, 5]
    for request, (answer,) in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * request["x"])


def test_an_error_reaches_the_requests_of_its_batch_and_no_other() -> None:
    model = Held()
    answers = asyncio.run(held(model, model.batcher(max_rows=1), [rows(1), rows(-1), rows(2)]))
    assert isinstance(answers[1], ValueError)
    assert [answers[0][0][0, 0], answers[2][0][0, 0]] == [2, 4]


def test_a_full_queue_refuses_and_answers_what_it_has() -> None:
    model = Held()
    answers = asyncio.run(held(model, model.batcher(max_rows=1, max_queued=2), [rows(1), rows(2), rows(3)]))
    assert [isinstance(answer, RateLimited) for answer in answers] == [False, False, True]


def test_a_request_that_was_given_up_leaves_the_others_alone() -> None:
    model = Held()

    async def run() -> Any:
        batcher = model.batcher(max_rows=2)
        tasks = [asyncio.create_task(batcher.infer(rows(value, value))) for value in (1, 2, 3)]
        while not model.sizes:
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        model.may_run.set()
        return await asyncio.gather(tasks[0], tasks[2])

    first, third = asyncio.run(run())
    assert [first[0][0, 0], third[0][0, 0]] == [2, 6]
    assert model.sizes == [2, 2]


def test_a_new_version_takes_over_without_dropping_a_request(models: Models, make_model: MakeModel) -> None:
    versions = [make_model(factor) for factor in (1.0, 10.0, 100.0)]

    async def ask_on(until: Callable[[], bool], answers: list[float]) -> None:
        while not until():
            served = models.get("default", "net")
            answers.append(float((await models.infer(served, {"x": ROW}))[0][0, 1]))
            await asyncio.sleep(0)

    async def run() -> list[float]:
        answers: list[float] = []
        done = False
        await models.load(wanted(versions[0]))
        clients = [asyncio.create_task(ask_on(lambda: done, answers)) for _ in range(4)]
        for generation, directory in enumerate(versions[1:], 2):
            await asyncio.sleep(0.02)
            await models.load(wanted(directory, generation))
        await asyncio.sleep(0.02)
        done = True
        await asyncio.gather(*clients)
        return answers

    answers = asyncio.run(run())
    assert set(answers) == {3.0, 30.0, 300.0}
    assert answers == sorted(answers)


def test_what_was_asked_before_an_unload_is_answered(models: Models, make_model: MakeModel) -> None:
    directory = make_model(1.0)

    async def run() -> list[Any]:
        await models.load(wanted(directory))
        served = models.get("default", "net")
        asked = [asyncio.create_task(models.infer(served, {"x": ROW})) for _ in range(20)]
        await asyncio.sleep(0)
        models.unload("default", "net")
        return list(await asyncio.gather(*asked))

    assert all(answer[0][0].tolist() == [3.0, 3.0] for answer in asyncio.run(run()))
    with pytest.raises(NotFound):
        models.get("default", "net")


def test_before_all_is_loaded_no_model_is_said_to_be_missing(models: Models) -> None:
    models.settled = False
    with pytest.raises(Unavailable):
        models.get("default", "net")


def test_a_version_that_cannot_be_served_leaves_the_one_that_is(models: Models, make_model: MakeModel) -> None:
    good, bad = make_model(1.0), make_model(float("nan"))

    async def run() -> None:
        await models.load(wanted(good))
        with pytest.raises(InvalidInput):
            await models.load(wanted(bad, 2))

    asyncio.run(run())
    assert models.generations() == {("default", "net"): 1}
    with pytest.raises(NotFound, match="version '2'"):
        models.get("default", "net", "2")
