"""The directory that holds a local stack's state, and the credentials made for it."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sextant.errors import BadInput

# The longest path of a Unix socket is 107 bytes on Linux; ".s.PGSQL.5432.lock" has to fit behind the directory.
MAX_SOCKET_DIRECTORY = 88
FALLBACK_ACCOUNTS = ("postgres", "nobody")


def _secret() -> str:
    return secrets.token_urlsafe(24)


def _key() -> str:
    return f"sx_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Random, made once for each directory."""

    postgres: str = field(default_factory=_secret)
    valkey: str = field(default_factory=_secret)
    nats: str = field(default_factory=_secret)
    admin_key: str = field(default_factory=_key)
    service_key: str = field(default_factory=_key)


@dataclass(frozen=True, slots=True)
class Home:
    """A local stack's directory, mode 0700; below it each part has its own."""

    path: Path

    @classmethod
    def prepare(cls, path: Path) -> Home:
        """Make what is missing. Raises BadInput where the place does not allow a stack."""
        home = cls(path.absolute())
        socket_directory = str(home.run)
        if len(socket_directory.encode()) > MAX_SOCKET_DIRECTORY:
            raise BadInput(
                f"the path {home.path} is too long for Unix sockets; choose a shorter one", field="SEXTANT_HOME"
            )
        try:
            home.path.mkdir(parents=True, exist_ok=True)
            # The account that runs PostgreSQL for root has to pass through, and sees nothing; otherwise nobody passes.
            home.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for directory in (home.logs, home.artefacts, home.work):
                directory.mkdir(exist_ok=True, mode=0o700)
            home.run.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadInput(f"{home.path} cannot be used: {error.strerror}", field="SEXTANT_HOME") from None
        home.check_account()
        return home

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Sockets, the lock, and the supervisor's state."""
        return self.path / "run"

    @property
    def artefacts(self) -> Path:
        """The artefact store."""
        return self.path / "artefacts"

    @property
    def work(self) -> Path:
        """Scratch space of running jobs."""
        return self.path / "work"

    @property
    def notary(self) -> Path:
        """The notary's key and checkpoints."""
        return self.path / "notary"

    @property
    def notary_pubkey(self) -> Path:
        """The key that the audit log's checkpoints are checked with."""
        return self.notary / "key.pub"

    @property
    def notary_checkpoints(self) -> Path:
        """The audit log's checkpoints, outside the database."""
        return self.notary / "checkpoints"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data and socket, owned by the account that runs it."""
        return self.path / "postgres"

    @property
    def client_file(self) -> Path:
        """Where the client finds the URL and the admin key."""
        return self.path / "client.json"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of its processes."""
        return self.run / "state.json"

    def account(self) -> pwd.struct_passwd | None:
        """The account to run PostgreSQL as: None where this process is not root. PostgreSQL refuses to be root."""
        if os.geteuid() != 0:
            return None
        for name in FALLBACK_ACCOUNTS:
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise BadInput("root cannot run PostgreSQL, and there is no account 'postgres' or 'nobody' to run it as")

    def check_account(self) -> None:
        """Raise BadInput where that account cannot come to this directory."""
        account = self.account()
        if account is None:
            return
        for parent in self.path.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise BadInput(
                    f"{self.path} lies below {parent}, which the account {account.pw_name!r} cannot enter; "
                    "root runs PostgreSQL as that account. Choose a place such as /var/lib/sextant",
                    field="SEXTANT_HOME",
                )

    def credentials(self) -> Credentials:
        """The stack's credentials; made on the first call."""
        file = self.path / "credentials.json"
        if file.exists():
            return Credentials(**json.loads(file.read_text()))
        made = Credentials()
        write_private(file, json.dumps(asdict(made)))
        return made

    def lock(self) -> int | None:
        """Hold the directory for this process; None where another one holds it."""
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

    def holder(self) -> int | None:
        """The supervisor's process id, or None where no stack is up."""
        try:
            descriptor = os.open(self.run / "lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(descriptor, 32, 0) or b"0") or None
        else:
            return None
        finally:
            os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    partial = path.with_name(path.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    partial.replace(path)
