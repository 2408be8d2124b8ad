"""A rank is killed and a rank is slowed: what it costs, and whether the loss curve is the undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sextant_parallel import DynamicParallel, Training
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_planner.cluster import Cluster, Link
from tests.bench import emulated
from tests.bench.plan_measured_rank import FREE
from tests.bench.ranks import run as run_ranks
from tests.bench.report import Report

EVERY = 10
RENDEZVOUS = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=2,join_timeout=300"
ENVIRONMENT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Ranks meet in the agents' store under a number of restarts that an agent counts for itself: after a loss the numbers
differ, and the ranks wait for each other until they time out. With a store of its own each round meets at once."""
SLOW_FROM, SLOW_BATCH = 20, 28


def run(report: Report) -> None:
    """First the kill, by torchrun with one agent a rank; then the slow rank, with slept compute."""
    _killed(report, 60 if report.quick else 150)
    _slowed(report, 70 if report.quick else 110)


def _killed(report: Report, steps: int) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        calm = _train(Path(one), steps, kill_at=None)
        struck = _train(Path(other), steps, kill_at=steps // 2 + EVERY // 2)
        save = json.loads((Path(one) / "history-4.json").read_text())
    before, after = [s for s in struck["steps"] if s["world"] == 4], [s for s in struck["steps"] if s["world"] == 3]
    if not after:
        raise SystemExit("the three ranks that were left did not go on")
    curve = {s["step"]: s["loss"] for s in before} | {s["step"]: s["loss"] for s in after}
    expected = {s["step"]: s["loss"] for s in calm["steps"]}
    report.figure("seconds_to_first_step", after[0]["at"] - struck["killed_at"])
    report.figure("steps_recomputed", before[-1]["step"] - (after[0]["step"] - 1))
    report.figure("checkpoint_interval", EVERY)
    report.figure("loss_diff", max(abs(curve[step] - expected[step]) for step in expected))
    report.figure("checkpoint_cost_pct", 100 * save["save_s"] / (save["save_s"] + save["steps_s"]))
    report.sample("loss", [curve[step] for step in sorted(curve)])
    report.note("kill -9 of one of four torchrun agents with its rank; the three others plan again and go on")
    report.note("the agent that hosts the rendezvous is spared: its loss ends a torchrun job (pytorch issue 67742)")


def _train(directory: Path, steps: int, kill_at: int | None) -> dict[str, Any]:
    (directory / "checkpoints").mkdir()
    port = 29_400 + os.getpid() % 500
    agents = [_agent(directory, steps, port, index) for index in range(4)]
    killed_at = 0.0
    try:
        while kill_at is not None and _last_step(directory) < kill_at:
            if agents[0].poll() is not None:
                raise SystemExit("torchrun ended before the kill")
            time.sleep(0.02)
        if kill_at is not None:
            killed_at = time.time()
            for process in [*psutil.Process(agents[3].pid).children(recursive=True), psutil.Process(agents[3].pid)]:
                process.send_signal(signal.SIGKILL)
        for agent in agents[:3]:
            agent.wait(300)
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    return {"steps": _steps(directory), "killed_at": killed_at}


def _agent(directory: Path, steps: int, port: int, index: int) -> subprocess.Popen[bytes]:
    host = "true" if index == 0 else "false"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=3:4", "--nproc-per-node=1", "--max-restarts=3"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=rebalance"]
    command += [f"--rdzv-conf=is_host={host},{RENDEZVOUS}", "-m", "tests.bench.rebalance_rank"]
    log = (directory / f"agent-{index}.log").open("wb")
    words = [*command, str(directory), str(steps), str(EVERY)]
    return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1"})


def _steps(directory: Path) -> list[dict[str, Any]]:
    file = directory / "steps.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _last_step(directory: Path) -> int:
    steps = _steps(directory)
    return int(steps[-1]["step"]) if steps else 0


def _slowed(report: Report, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        results = run_ranks(4, _slow_rank, directory, steps, timeout_s=400.0)
    step_s, switches = results[0]
    before = statistics.median(step_s[5:SLOW_FROM])
    during = statistics.median(step_s[SLOW_FROM + 2 : SLOW_FROM + 8])
    after = statistics.median(step_s[-10:])
    # Speeds 1, 1, 1 and a half: the best that the four can do together.
    optimum = before * 4 / 3.5
    report.figure("slow_during_of_optimum_pct", 100 * optimum / during)
    report.figure("slow_after_of_optimum_pct", 100 * optimum / after)
    report.figure("slow_switches", len(switches))
    report.sample("slow_step_s", step_s)
    for switch in switches:
        report.note(f"slow rank: {switch}")


def _slow_rank(directory: str, steps: int) -> tuple[list[float], list[str]]:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(emulated.build("even"))
        return made[-1]

    def batches(step: int, rows: slice) -> tuple[Tensor, Tensor]:
        if dist.get_rank() == 1 and step >= SLOW_FROM:
            for block in made[-1].modules():
                if isinstance(block, emulated.SleptBlock):
                    block.slowdown = 2.0
        inputs, targets = emulated.batch("even", SLOW_BATCH)
        return inputs[rows], targets[rows]

    torch.set_num_threads(1)
    inputs, _ = emulated.batch("even", 1)
    model = emulated.build("even")
    profile = with_times(trace(model, inputs, optimizer_bytes=0), model, inputs, FREE.name, sizes=(1, 4, 8), repeats=2)
    link = Link(name="lo", size=4, bandwidth=5e8)
    cluster = Cluster(name="four", devices=(FREE,), layout=(0,) * 4, links=(link,), prefetch=False)
    config = {"data_parallelism": 4, "model_parallelism": 1, "pipeline_stages": 1, "global_batch": SLOW_BATCH}
    dynamic = DynamicParallel({**config, "sharding": ("none",), "microbatches": 1}, model=profile, cluster=cluster)
    training = Training(make, batches, emulated.loss, emulated.optimizer, steps)
    history = dynamic.fit(training, Path(directory), every=1000, window=5)
    told = [f"{s.grade} at step {s.step} for {s.reason}: {s.plan}, in {s.seconds:.2f} s" for s in history.switches]
    return history.step_s, told
