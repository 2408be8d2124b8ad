"""Sextant for users: `Client`, `AsyncClient`, and the specs of jobs as objects. Names are loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sextant.answers import EndEvent, LogEvent, Prediction, ProgressEvent, Pulled, StateEvent, StreamEvent
    from sextant.async_client import AsyncClient
    from sextant.client import Client
    from sextant.errors import (
        AccessRefused,
        ApiError,
        BadInput,
        ClientError,
        Conflict,
        InvalidRequest,
        JobFailed,
        NotFound,
        NotReachable,
        TimedOut,
        TransferFailed,
    )
    from sextant_shared.contracts.models import CodeModel, OwnModel, ZooModel
    from sextant_shared.contracts.references import DatasetRef, ModelRef, StepRef
    from sextant_shared.contracts.specs import (
        Choice,
        DeploySpec,
        EvaluateSpec,
        ExportSpec,
        FloatRange,
        IntRange,
        PipelineSpec,
        PrepareSpec,
        ProbeSpec,
        Resources,
        Retry,
        ScriptSpec,
        Split,
        TrainConfig,
        TrainSpec,
        TuneSpec,
    )

_ANSWERS = ("EndEvent", "LogEvent", "Prediction", "ProgressEvent", "Pulled", "StateEvent", "StreamEvent")
_ERRORS = (
    *("AccessRefused", "ApiError", "BadInput", "ClientError", "Conflict", "InvalidRequest", "JobFailed"),
    *("NotFound", "NotReachable", "TimedOut", "TransferFailed"),
)
_SPECS = (
    *("Choice", "DeploySpec", "EvaluateSpec", "ExportSpec", "FloatRange", "IntRange", "PipelineSpec", "PrepareSpec"),
    *("ProbeSpec", "Resources", "Retry", "ScriptSpec", "Split", "TrainConfig", "TrainSpec", "TuneSpec"),
)
_HOMES = {
    "Client": "sextant.client",
    "AsyncClient": "sextant.async_client",
    **dict.fromkeys(_ANSWERS, "sextant.answers"),
    **dict.fromkeys(_ERRORS, "sextant.errors"),
    **dict.fromkeys(_SPECS, "sextant_shared.contracts.specs"),
    **dict.fromkeys(("CodeModel", "OwnModel", "ZooModel"), "sextant_shared.contracts.models"),
    **dict.fromkeys(("DatasetRef", "ModelRef", "StepRef"), "sextant_shared.contracts.references"),
}

__all__ = [
    "AccessRefused",
    "ApiError",
    "AsyncClient",
    "BadInput",
    "Choice",
    "Client",
    "ClientError",
    "CodeModel",
    "Conflict",
    "DatasetRef",
    "DeploySpec",
    "EndEvent",
    "EvaluateSpec",
    "ExportSpec",
    "FloatRange",
    "IntRange",
    "InvalidRequest",
    "JobFailed",
    "LogEvent",
    "ModelRef",
    "NotFound",
    "NotReachable",
    "OwnModel",
    "PipelineSpec",
    "Prediction",
    "PrepareSpec",
    "ProbeSpec",
    "ProgressEvent",
    "Pulled",
    "Resources",
    "Retry",
    "ScriptSpec",
    "Split",
    "StateEvent",
    "StepRef",
    "StreamEvent",
    "TimedOut",
    "TrainConfig",
    "TrainSpec",
    "TransferFailed",
    "TuneSpec",
    "ZooModel",
]


def __getattr__(name: str) -> Any:
    # The command must answer --help at once; pydantic and httpx take longer to import than everything else.
    if name not in _HOMES:
        raise AttributeError(f"module 'sextant' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
