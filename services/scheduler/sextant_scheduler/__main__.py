"""`python -m sextant_scheduler api|control|notary|migrate`."""

import sys

from sextant_scheduler.app import main

sys.exit(main(sys.argv[1:]))
