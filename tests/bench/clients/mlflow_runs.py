"""Runs in MLflow's own environment: creates runs from 16 threads. `python mlflow_runs.py URL SECONDS`."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from mlflow import MlflowClient

CLIENTS = 16


def main(url: str, seconds: float) -> None:
    """Print latencies."""
    end = time.perf_counter() + seconds

    def create(_: int) -> list[float]:
        client = MlflowClient(url)
        taken = []
        while time.perf_counter() < end:
            began = time.perf_counter()
            client.create_run("0")
            taken.append(time.perf_counter() - began)
        return taken

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        latencies = [value for some in pool.map(create, range(CLIENTS)) for value in some]
    json.dump({"latencies_s": latencies, "seconds": time.perf_counter() - began}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
