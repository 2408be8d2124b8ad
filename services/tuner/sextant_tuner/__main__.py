"""`python -m sextant_tuner control`."""

import sys

from sextant_tuner.app import main

sys.exit(main(sys.argv[1:]))
