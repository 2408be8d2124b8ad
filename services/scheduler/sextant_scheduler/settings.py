"""The scheduler's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sextant_shared.settings import Settings


class SchedulerSettings(Settings):
    """What the API and the control process need."""

    api_port: int = Field(8700, ge=1, le=65535)
    inference_url: str = "http://127.0.0.1:8701"
    max_body_bytes: int = Field(2 * 2**20, ge=1024, description="largest accepted request body, but for uploads")
    max_in_flight: int = Field(256, ge=1, description="requests at a time; those beyond are told to come again")
    max_transfers: int = Field(64, ge=1, description="uploads, inference calls and live streams at a time, likewise")
    key_rate: float = Field(5000, gt=0, description="requests a second that a key may make, with bursts of as many")
    max_open_jobs: int = Field(250_000, ge=1, description="of a tenant, steps of pipelines included")
    max_open_uploads: int = Field(1000, ge=1, description="of a tenant: announced, and not complete")
    max_streams: int = Field(64, ge=1, description="live streams of a tenant at a time")
    max_keys: int = Field(1000, ge=1, description="of a tenant: not revoked, and not expired")
    reservation_s: float = Field(20.0, gt=0, description="how long a gang may take from reservation to start")
    redispatch_s: float = Field(30.0, gt=0, description="after which a queued job is sent to its queue again")
    node_timeout_s: float = Field(20.0, gt=0, description="after which a silent trainer node gets no new work")


class DatabaseSettings(Settings):
    """Of a process that works with the database alone."""

    redis_url: str = ""
    nats_url: str = ""
    artefacts_url: str = ""
    work_dir: Path = Path()


class NotarySettings(DatabaseSettings):
    """What the notary needs."""

    notary_dir: Path = Field(description="its key and checkpoints; best not on the database's disk")


class BackupSettings(DatabaseSettings):
    """What backup and restore need."""

    artefacts_url: str
    notary_dir: Path | None = Field(None, description="whose key goes with the backup")


class MigrateSettings(DatabaseSettings):
    """What a migration needs, and the first keys to insert."""

    admin_key: str = ""
    service_key: str = ""
    roles: str = Field("", repr=False, description="SERVICE:PASSWORD ...: the services' roles in the database")
