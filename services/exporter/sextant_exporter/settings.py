"""The exporter's settings."""

from __future__ import annotations

from sextant_shared.settings import Settings


class ExporterSettings(Settings):
    """Where endpoints are evaluated, and the narrow key for it."""

    inference_url: str = "http://127.0.0.1:8701"
    service_key: str
