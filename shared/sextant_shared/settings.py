"""Settings that all services share. A service's settings module extends these; nothing else reads the environment."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sextant_shared.contracts.limits import Limits, UserCode
from sextant_shared.errors import InvalidInput

PREFIX = "SEXTANT_"


class Settings(BaseModel):
    """One frozen object, read once where a process starts. A field `lease_s` comes from SEXTANT_LEASE_S."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    database_url: str = Field(description="postgresql+psycopg://...")
    redis_url: str = Field(description="the Celery broker")
    nats_url: str
    artefacts_url: str = Field(description="an fsspec URL: file:///... or s3://...")
    work_dir: Path = Field(description="scratch space of running jobs on this machine")
    bind: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="0: no metrics")
    log_format: str = Field("json", pattern="^(json|text)$")
    lease_s: float = Field(10.0, gt=0.5, le=3600)
    node_name: str = Field(default_factory=socket.gethostname)
    user_code: UserCode = Field("off", description="whether models and scripts of users' own code are run")
    job_memory_mb: int = Field(0, ge=0, lt=2**31, description="that the processes of a job here may use; 0: no limit")
    job_cpu_s: int = Field(0, ge=0, lt=2**31, description="likewise, seconds of one core")
    job_disk_mb: int = Field(0, ge=0, lt=2**31, description="likewise, below the job's working directory")
    job_processes: int = Field(0, ge=0, lt=2**22, description="likewise")

    @property
    def limits(self) -> Limits:
        """Of every job here."""
        own = {name: getattr(self, f"job_{name}") for name in Limits.model_fields}
        return Limits(**own)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """The settings in `environment`. Raises InvalidInput naming the variable that is missing or wrong."""
        values = {
            name: environment[PREFIX + name.upper()]
            for name in cls.model_fields
            if PREFIX + name.upper() in environment
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            raise InvalidInput(f"{variable}: {first['msg']}", field=variable) from None
