"""Signed notes and checkpoints as the transparency-log community writes them, with Ed25519.

Formats: C2SP signed-note and tlog-checkpoint (https://c2sp.org). A checkpoint says which root the log's tree had at a
size; whoever holds one can show later that the log was changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
MARK = "\u2014 "
PRIVATE = "PRIVATE+KEY+"


class BadNote(ValueError):
    """A key, a note or a checkpoint that is none, or whose signature does not hold."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of log `origin` had `root` when it had `size` leaves; `at` is UTC text, as its signer's clock said."""

    origin: str
    size: int
    root: bytes
    at: str

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n{self.at}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Raises BadNote for a text that is no checkpoint."""
        try:
            origin, size, root, at = text.removesuffix("\n").split("\n")
            parsed = cls(origin, int(size), base64.b64decode(root, validate=True), at)
        except (ValueError, binascii.Error):
            raise BadNote("this is no checkpoint: it has not the four lines origin, size, root and time") from None
        if parsed.size < 0 or len(parsed.root) != 32:
            raise BadNote(f"this is no checkpoint: its size is {parsed.size} and its root has {len(parsed.root)} bytes")
        return parsed


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under its name."""

    name: str
    key: bytes

    @property
    def hash(self) -> bytes:
        """Four bytes that tell signatures of different keys apart."""
        return _key_hash(self.name, self.key)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From `<name>+<hash>+<key>`. Raises BadNote."""
        name, key, hashed = _parts(text.strip())
        if len(key) != 32 or _key_hash(name, key) != hashed:
            raise BadNote("this is no Ed25519 public key of a notary: accepted is <name>+<hash>+<base64>")
        return cls(name, key)

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(ED25519 + self.key).decode()}"

    def open(self, note: str) -> str:
        """The text of a note that this key has signed. Raises BadNote where it has not."""
        text, separator, signatures = note.rpartition("\n\n")
        if not separator:
            raise BadNote("this is no signed note: no empty line stands before its signatures")
        text += "\n"
        for line in signatures.splitlines():
            name, _, encoded = line.removeprefix(MARK).partition(" ")
            try:
                blob = base64.b64decode(encoded, validate=True)
            except (ValueError, binascii.Error):
                raise BadNote("a signature of this note is not in base64") from None
            if not line.startswith(MARK) or name != self.name or blob[:4] != self.hash:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(self.key).verify(blob[4:], text.encode())
            except InvalidSignature:
                raise BadNote(f"the signature of {self.name} does not hold") from None
            return text
        raise BadNote(f"this note is not signed by the given key of {self.name}")


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key under its name."""

    name: str
    seed: bytes

    @classmethod
    def new(cls, name: str) -> Signer:
        """A fresh key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Signer:
        """From what `private` gave. Raises BadNote."""
        stripped = text.strip()
        name, seed, hashed = _parts(stripped.removeprefix(PRIVATE))
        signer = cls(name, seed)
        if not stripped.startswith(PRIVATE) or len(seed) != 32 or signer.verifier.hash != hashed:
            raise BadNote("this is no Ed25519 private key of a notary")
        return signer

    @property
    def private(self) -> str:
        """The key as text, to be kept secret."""
        return f"{PRIVATE}{self.name}+{self.verifier.hash.hex()}+{base64.b64encode(ED25519 + self.seed).decode()}"

    @property
    def verifier(self) -> Verifier:
        """The public key."""
        key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return Verifier(self.name, key.public_bytes_raw())

    def sign(self, text: str) -> str:
        """`text`, which ends with a newline, and its signature."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n{MARK}{self.name} {base64.b64encode(self.verifier.hash + signature).decode()}\n"


def split(text: str) -> Iterator[str]:
    """The notes of a file that has one after the other."""
    note: list[str] = []
    for line in text.splitlines(keepends=True):
        if note and note[-1].startswith(MARK) and not line.startswith(MARK):
            yield "".join(note)
            note = []
        note.append(line)
    if note:
        yield "".join(note)


def _key_hash(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + key).digest()[:4]


def _parts(text: str) -> tuple[str, bytes, bytes]:
    try:
        name, hashed, encoded = text.split("+", 2)
        blob = base64.b64decode(encoded, validate=True)
        if blob[:1] != ED25519 or not name:
            raise ValueError
        return name, blob[1:], bytes.fromhex(hashed)
    except (ValueError, binascii.Error):
        raise BadNote("this is no key of a notary: accepted is <name>+<hash>+<base64>") from None
