"""`quickstart`: the whole platform on this machine, and the digits images from raw data to a served, checked model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sextant.command.session import JOB_FAILED, Json, Session, session
from sextant.profile import home

if TYPE_CHECKING:
    from sextant.auditing import Verdict
    from sextant_shared.contracts.views import JobView


def quickstart(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Take the platform down again at the end.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_500, help="The API's port.")] = 8700,
    as_json: Json = False,
) -> None:
    """Start the platform, run the digits pipeline, and say what came out and what to type next."""
    with session(ctx, as_json) as this:
        from sextant.stack import control
        from sextant.stack.home import Home
        from sextant.witnessing import verify_server

        try:
            up_seconds = _bring_up(this, port)
            ended = _run_pipeline(this)
            verdict = verify_server(this.client, Home(home()).notary_pubkey, Home(home()).notary_checkpoints)
            summary = summarise(ended, verdict, up_seconds)
            this.document(summary)
            _print(this, summary, stays_up=not once)
        finally:
            if once:
                control.down(home())
                this.say("the platform is down again")
        if ended.state != "SUCCEEDED" or verdict.verdict != "ok":
            raise typer.Exit(JOB_FAILED)


def _bring_up(this: Session, port: int) -> float | None:
    import time

    from sextant.stack import control
    from sextant.stack.processes import Options

    began = time.monotonic()
    this.say(f"starting the platform in {home()} ...")
    try:
        now = control.up_detached(home(), Options(port=port))
    except control.AlreadyUp as error:
        this.say(str(error))
        return None
    seconds = time.monotonic() - began
    this.say(f"ready in {seconds:.1f} s at {now.url}: {len(now.processes)} processes")
    return seconds


def _run_pipeline(this: Session) -> JobView:
    from sextant import documents
    from sextant.command.follow import follow

    view = this.client.submit(documents.example("digits").content)
    this.say(f"submitted the pipeline {view.name}: {view.id}")
    return this.client.wait(view.id, check=False) if this.as_json else follow(this, str(view.id))


def summarise(ended: JobView, verdict: Verdict, up_seconds: float | None) -> dict[str, Any]:
    """The figures of a run; seconds and milliseconds."""
    steps = {step.step or "": step for step in ended.steps or []}
    check = (steps["check"].outputs or {}) if "check" in steps else {}
    took = {
        name: (step.finished_at - (step.started_at or step.created_at)).total_seconds()
        for name, step in steps.items()
        if step.finished_at
    }
    total = (ended.finished_at - ended.created_at).total_seconds() if ended.finished_at else None
    return {
        "job": str(ended.id),
        "state": ended.state,
        "accuracy": check.get("metrics", {}).get("accuracy"),
        "latency_ms": check.get("latency_ms", {}),
        "seconds_ready": up_seconds,
        "seconds_pipeline": total,
        "seconds_by_step": took,
        "audit": {"verdict": verdict.verdict, "rows": verdict.rows, "subjects": verdict.subjects},
    }


def _print(this: Session, summary: dict[str, Any], *, stays_up: bool) -> None:
    this.say("", f"pipeline   {summary['state']} in {summary['seconds_pipeline'] or 0:.1f} s")
    for name, seconds in summary["seconds_by_step"].items():
        this.say(f"  {name:<8} {seconds:6.1f} s")
    if summary["accuracy"] is not None:
        latency = summary["latency_ms"]
        this.say(f"accuracy   {summary['accuracy']:.2%} of the held-out images, through the live endpoint")
        this.say(f"latency    p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms, one image a request")
    audit = summary["audit"]
    this.say(f"audit      {audit['verdict']}: {audit['rows']} rows of {audit['subjects']} subjects hold together")
    if stays_up:
        this.say(
            "",
            "The platform stays up. What to type next:",
            "  sextant status                         how it is",
            f"  sextant lineage {summary['job']}   (or events, why, logs)",
            "  sextant models list                    what was made",
            "  sextant predict digits --data FILE     ask the endpoint",
            "  sextant submit FILE --follow           a job of your own",
            "  sextant down                           stop everything; its state stays",
        )
