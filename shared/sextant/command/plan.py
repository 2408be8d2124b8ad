"""`sextant plan`: how to split a model's training over devices; needs no server and no device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sextant.command.session import Json, session

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the catalogue, or a profile's file (.json).")]
ClusterFile = Annotated[
    str | None, typer.Option("--cluster", metavar="FILE", help="YAML: device and devices, or a whole cluster profile.")
]
Degree = Annotated[int | None, typer.Option(min=1, help="Fix this degree; the planner chooses it otherwise.")]


def plan(
    ctx: typer.Context,
    model: Model,
    cluster: ClusterFile = None,
    device: Annotated[str | None, typer.Option(help="A device of the catalogue.")] = None,
    devices: Annotated[int | None, typer.Option(min=1, max=65_536, help="How many.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step; 8 a device by default.")] = None,
    tp: Degree = None,
    dp: Degree = None,
    pp: Degree = None,
    cp: Degree = None,
    precision: Annotated[str, typer.Option(help="bfloat16 or float32.")] = "bfloat16",
    top: Annotated[int, typer.Option(min=1, max=50, help="How many plans to show.")] = 5,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw them too.")] = None,
    as_json: Json = False,
) -> None:
    """Predict time and memory of every way to train MODEL on a cluster, and explain the best."""
    with session(ctx, as_json) as this:
        from sextant import planning
        from sextant.errors import BadInput
        from sextant_planner.explain import explain
        from sextant_planner.picture import draw
        from sextant_planner.plan import Precision
        from sextant_planner.search.space import Wishes

        if precision not in tuple(Precision):
            raise BadInput(f"--precision {precision}: accepted are {', '.join(Precision)}")
        where = planning.read_cluster(cluster, device, devices)
        wishes = Wishes(
            global_batch=batch or 8 * where.size, dp=dp, tp=tp, pp=pp, cp=cp, precision=Precision(precision)
        )
        this.note("looking at every way to split it")
        choice = planning.find(planning.read_model(model), where, wishes, top)
        if picture:
            picture.write_text(draw(choice))
        this.say(explain(choice))
        this.document(choice)
