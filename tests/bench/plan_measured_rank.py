"""One rank of `plan-measured`: `python -m tests.bench.plan_measured_rank RANK SIZE DIRECTORY`.

Jobs come in DIRECTORY/jobs.json: to measure the cluster, to profile a model, or to run a plan. Rank 0 writes what came
of each.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from sextant_parallel.profiling.links import measure_cluster
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_parallel.runtime import apply
from sextant_planner.cluster import Device
from sextant_planner.plan import ParallelPlan
from tests.bench import emulated
from tests.bench.shaped import DEVICE

TIMEOUT = timedelta(seconds=120)
FREE = Device(
    name="slept", flops={"float32": 1e15, "bfloat16": 1e15}, memory_bytes=64e9, memory_bandwidth=20e9, source="emulated"
)
"""Its arithmetic costs nothing; what blocks take is slept, and stands in the model's profile."""


def main(rank: int, size: int, directory: Path) -> None:
    """Run all jobs."""
    os.environ["GLOO_SOCKET_IFNAME"] = DEVICE
    # torch 2.13 has new names for two collectives, which 2.11 does not know.
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    jobs: list[dict[str, Any]] = json.loads((directory / "jobs.json").read_text())
    for number, job in enumerate(jobs):
        # A process each: what torch keeps of the meshes of one world is not right for the next.
        child = os.fork()
        if not child:
            _in_child(rank, size, directory, number, job)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"job {number} of rank {rank} failed: {job['what']}")


def _in_child(rank: int, size: int, directory: Path, number: int, job: dict[str, Any]) -> NoReturn:
    try:
        store = FileStore(str(directory / f"rendezvous-{number}"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        result = _result(size, job)
        dist.barrier()
        if rank == 0:
            partial = directory / f"result-{number}.new"
            partial.write_text(result)
            partial.replace(directory / f"result-{number}.json")
        dist.destroy_process_group()
    except BaseException:  # noqa: BLE001 - a child that was forked ends here, whatever happens
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _result(size: int, job: dict[str, Any]) -> str:
    match job["what"]:
        case "cluster":
            return _cluster(size, job)
        case "profile":
            return _profile(job)
    return _plan(job)


def _profile(job: dict[str, Any]) -> str:
    name = job["model"]
    model = emulated.build(name, job["slowed"])
    inputs, _ = emulated.batch(name, 1)
    profile = trace(model, inputs, name=name, optimizer_bytes=0)
    return with_times(profile, model, inputs, FREE.name, sizes=(1, 2, 4, 8), repeats=5).to_json()


def _cluster(size: int, job: dict[str, Any]) -> str:
    sizes = (1 << 10, 1 << 13, 1 << 15, 1 << 17, 1 << 19, 1 << 21)
    return measure_cluster("hosts", FREE, [("link", size)], sizes=sizes, repeats=job["repeats"]).to_json()


def _plan(job: dict[str, Any]) -> str:
    """Seconds of each step, the slowest rank's."""
    plan = ParallelPlan.from_json(job["plan"])
    model = emulated.build(job["model"], job["slowed"])
    runtime = apply(model, plan, optimizer=emulated.optimizer, loss=emulated.loss)
    inputs, targets = emulated.batch(job["model"], plan.global_batch)
    inputs, targets = inputs[runtime.rows], targets[runtime.rows]
    taken = []
    for number in range(job["steps"] + 1):
        dist.barrier()
        began = time.perf_counter()
        runtime.train_step(inputs, targets)
        seconds = torch.tensor(time.perf_counter() - began, dtype=torch.float64)
        dist.all_reduce(seconds, dist.ReduceOp.MAX)
        if number:
            taken.append(float(seconds))
    return json.dumps(taken)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
