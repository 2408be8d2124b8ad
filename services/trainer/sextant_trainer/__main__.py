"""`python -m sextant_trainer agent`."""

import sys

from sextant_trainer.app import main

sys.exit(main(sys.argv[1:]))
