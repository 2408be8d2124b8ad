"""The work of the exporter's job kinds."""

from __future__ import annotations

from sextant_shared.execution.workbench import Result, Workbench


def export(bench: Workbench) -> Result:
    """An `export` job. Imports torch only here: an evaluation needs none."""
    from sextant_exporter.exporting import export as work

    return work(bench)


def evaluate(bench: Workbench) -> Result:
    """An `evaluate` job."""
    from sextant_exporter.evaluating import evaluate as work

    return work(bench)
