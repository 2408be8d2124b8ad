"""`python -m sextant_trainer agent`."""

import sys

import sextant_shared.lean  # noqa: F401 - before what it spares
from sextant_trainer.app import main

sys.exit(main(sys.argv[1:]))
