"""`python -m sextant_scheduler api|control|migrate`."""

import sys

from sextant_scheduler.app import main

sys.exit(main(sys.argv[1:]))
