"""Model architectures by name: their settings, what a search may change, how to build them. torch only to build."""

from sextant_zoo.registry import build, check, describe, names

__all__ = ["build", "check", "describe", "names"]
