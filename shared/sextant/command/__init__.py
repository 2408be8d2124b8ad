"""The `sextant` command."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `sextant` script."""
    from sextant.command.app import build

    build()(prog_name="sextant")
