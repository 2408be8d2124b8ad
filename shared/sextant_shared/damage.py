"""What decoders do with damaged files: one error for all that they raise."""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

RAISED: tuple[type[Exception], ...] = (
    *(ValueError, LookupError, ArithmeticError, TypeError, AttributeError, SyntaxError, RuntimeError, EOFError),
    *(struct.error, zlib.error),
)
"""The decoders of Python and Pillow document few of these. Lack of memory is none: it says nothing of the file."""
MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE)


class Damaged(Exception):
    """A file is not what it should be; the message says why."""


@contextmanager
def decoding(*own: type[Exception]) -> Iterator[None]:
    """Raise Damaged for what decoders raise, their `own` errors included; what the machine lacks goes through."""
    try:
        yield
    except OSError as error:
        if error.errno in MACHINE:
            raise
        raise Damaged(str(error)) from error
    except (*RAISED, *own) as error:
        raise Damaged(str(error)) from error
