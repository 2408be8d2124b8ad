"""Each service's own account on the servers that are ours: one that is taken over opens nothing of the others'."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from sextant.stack.home import Credentials, Home
from sextant_shared.contracts.rights import SERVICES, account


def password(credentials: Credentials, service: str) -> str:
    """A service's password: it follows from the stack's secrets, and tells nothing of them."""
    secret = "\n".join((credentials.postgres, credentials.valkey, credentials.nats)).encode()
    return "p" + hmac.digest(secret, account(service).encode(), hashlib.sha256).hex()


def passwords(credentials: Credentials) -> dict[str, str]:
    """All of them."""
    return {service: password(credentials, service) for service in SERVICES}


@dataclass(frozen=True, slots=True)
class Accounts:
    """How each service reaches the servers; those that were given by URL have accounts of their own making."""

    home: Home
    credentials: Credentials = field(repr=False)
    nats_port: int
    given: Mapping[str, str] = field(default_factory=dict)

    def urls(self, service: str) -> dict[str, str]:
        """The variables with the service's URLs, of our own servers alone."""
        secret = password(self.credentials, service)
        who = f"{account(service)}:{quote(secret)}"
        queues = f"redis+socket://{who}@{self.home.run / 'valkey.sock'}" if SERVICES[service].queues else ""
        ours = {
            "SEXTANT_DATABASE_URL": f"postgresql+psycopg://{who}@/postgres?host={quote(str(self.home.postgres))}",
            "SEXTANT_REDIS_URL": queues,
            "SEXTANT_NATS_URL": f"nats://{who}@127.0.0.1:{self.nats_port}" if SERVICES[service].speaks else "",
        }
        return {name: url for name, url in ours.items() if name not in self.given}

    def roles(self) -> dict[str, str]:
        """The variable that has a migration make the database's roles."""
        if "SEXTANT_DATABASE_URL" in self.given:
            return {}
        made = passwords(self.credentials)
        return {"SEXTANT_ROLES": " ".join(f"{service}:{secret}" for service, secret in made.items())}
