"""`python -m sextant_inference serve`."""

import sys

import sextant_shared.lean  # noqa: F401 - before what it spares
from sextant_inference.app import main

sys.exit(main(sys.argv[1:]))
