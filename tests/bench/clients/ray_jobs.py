"""Runs in Ray's own environment: submits jobs from 16 threads, and waits for them. `python ray_jobs.py URL JOBS`."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from ray.job_submission import JobStatus, JobSubmissionClient

CLIENTS = 16
DRAIN_S = 90.0


def main(url: str, jobs: int) -> None:
    """Print latencies of the submissions, and when how many had ended."""
    clients = [JobSubmissionClient(url) for _ in range(CLIENTS)]

    def submit(number: int) -> tuple[str, float]:
        began = time.perf_counter()
        job = clients[number % CLIENTS].submit_job(entrypoint="true")
        return job, time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        made = list(pool.map(submit, range(jobs)))
    submitted = time.perf_counter() - began
    ids, done = {job for job, _ in made}, 0
    while time.perf_counter() - began < DRAIN_S and done < jobs:
        ended = {job.submission_id for job in clients[0].list_jobs() if job.status == JobStatus.SUCCEEDED}
        done = len(ids & ended)
        time.sleep(0.5)
    drained = time.perf_counter() - began
    json.dump(
        {"latencies_s": [s for _, s in made], "seconds": submitted, "done": done, "drained_s": drained}, sys.stdout
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
