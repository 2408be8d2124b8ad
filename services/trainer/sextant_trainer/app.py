"""The composition root of the trainer's node agent."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from pathlib import Path

from sextant_shared.errors import InvalidInput
from sextant_trainer.settings import AgentSettings

USAGE = "usage: python -m sextant_trainer agent | work DIRECTORY | profile ..."


def main(arguments: list[str]) -> int:
    """Run the process that the arguments name; the exit status."""
    if arguments[:1] == ["profile"]:
        from sextant_trainer import profile

        return profile.main(arguments[1:])
    if arguments[:1] == ["work"] and len(arguments) == 2:
        from sextant_shared.execution import child
        from sextant_trainer.script.work import run_script

        return child.main(Path(arguments[1]), {"script": run_script})
    if arguments != ["agent"]:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        settings = AgentSettings.read(os.environ)
    except InvalidInput as error:
        sys.stderr.write(f"sextant_trainer: {error.message}\n")
        return 2
    run(settings)
    return 0


def run(settings: AgentSettings) -> None:
    """Serve this node until SIGTERM."""
    from prometheus_client import CollectorRegistry

    from sextant_shared.contracts.messages import NodeAlive
    from sextant_shared.execution.launching import ProcessLauncher
    from sextant_shared.execution.supervisor import Supervisor
    from sextant_shared.execution.worker import build_workshop, lock_worker
    from sextant_shared.telemetry import configure_logging, serve_operations
    from sextant_trainer.consumer import Agent
    from sextant_trainer.launch import ZygoteLauncher
    from sextant_trainer.member import Members

    configure_logging(settings.log_format, "trainer")
    lock = lock_worker(settings.work_dir, "trainer")
    registry = CollectorRegistry()
    # A full node uses each core once, however its slots are shared out.
    threads = max(1, (os.cpu_count() or 1) // settings.slots)
    address = settings.meeting_address
    profiles = settings.work_dir / "profiles"
    # A rank with a user's own code may write below it, but could not make it.
    profiles.mkdir(exist_ok=True)
    launcher = ZygoteLauncher(profiles, address, threads, keep=(lock.descriptor,))
    launcher.warm()
    scripts = ProcessLauncher("sextant_trainer", (lock.descriptor,), {"OMP_NUM_THREADS": str(threads)})
    shop = build_workshop(settings, f"{settings.node_name}/trainer", registry, {"train": launcher, "script": scripts})
    supervisor = Supervisor(shop)
    supervisor.listen()
    supervisor.recover()
    members = Members(shop, launcher, settings.node_name)
    members.recover()
    info = {"address": address}
    alive = NodeAlive(name=settings.node_name, instance=str(uuid.uuid4()), slots=settings.slots, info=info)
    agent = Agent(shop, supervisor, members, alive, settings.alive_every_s)

    def unready() -> str | None:
        return agent.unready() or (None if launcher.ready else "the zygote is importing torch")

    operations = serve_operations(settings.bind, settings.metrics_port, registry, unready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    launcher.close()
    shop.bus.close()
    shop.engine.dispose()
    if operations:
        operations.close()
