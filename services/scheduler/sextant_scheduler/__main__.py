"""`python -m sextant_scheduler api|control|notary|migrate`."""

import sys

import sextant_shared.lean  # noqa: F401 - before what it spares
from sextant_scheduler.app import main

sys.exit(main(sys.argv[1:]))
