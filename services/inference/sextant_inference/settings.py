"""The inference service's settings."""

from __future__ import annotations

import os

from pydantic import Field

from sextant_shared.settings import Settings


class InferenceSettings(Settings):
    """What it listens on and how much it may use."""

    inference_port: int = Field(8701, ge=1, le=65535)
    max_body_bytes: int = Field(64 * 2**20, ge=1024)
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="per model, inside one batch")
    reconcile_every_s: float = Field(5.0, gt=0.1)
