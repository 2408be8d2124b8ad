"""Runs in Ray's own environment: submits jobs until each is taken. `python chaos_ray.py URL PLAN WORK ANSWERED`.

PLAN is JSON: [seconds, key, sleep_s] of each job. A job notes its start and its end in WORK; the keys of those that the
server has taken go to ANSWERED.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray.job_submission import JobSubmissionClient

CLIENTS = 4
GIVE_UP_S = 90.0
PROGRAM = (
    "import sys,time; w=lambda s: open(sys.argv[1],'a').write(f'{s} {sys.argv[2]} ray {time.time():.6f}\\n');"
    " w('start'); time.sleep(float(sys.argv[3])); w('end')"
)


def submit(url: str, key: str, entrypoint: str) -> bool:
    """Under its own id, which is what Ray has for a key: one that it knows already was taken before."""
    until = time.monotonic() + GIVE_UP_S
    while time.monotonic() < until:
        try:
            JobSubmissionClient(url).submit_job(entrypoint=entrypoint, submission_id=key)
        except Exception as error:  # noqa: BLE001 - whatever it was, the server did not say that it has it
            if "already exists" in str(error):
                return True
            time.sleep(0.5)
        else:
            return True
    return False


def main(url: str, plan: str, work: str, answered: str) -> None:
    """Each at its time."""
    began = time.monotonic()

    def one(each: tuple[float, str, float]) -> None:
        at_s, key, sleep_s = each
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        if submit(url, key, f'{sys.executable} -c "{PROGRAM}" {work} {key} {sleep_s}'):
            with Path(answered).open("a") as stream:
                stream.write(key + "\n")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, json.loads(plan)))


if __name__ == "__main__":
    main(*sys.argv[1:])
