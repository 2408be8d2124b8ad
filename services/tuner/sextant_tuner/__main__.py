"""`python -m sextant_tuner control`."""

import sys

import sextant_shared.lean  # noqa: F401 - before what it spares
from sextant_tuner.app import main

sys.exit(main(sys.argv[1:]))
