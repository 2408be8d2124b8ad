"""`python -m sextant_exporter worker` consumes jobs; `work DIRECTORY` does the work of one."""

import sys

import sextant_shared.lean  # noqa: F401 - before what it spares
from sextant_exporter.app import main

sys.exit(main(sys.argv[1:]))
