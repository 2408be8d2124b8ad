"""`python -m sextant_inference serve`."""

import sys

from sextant_inference.app import main

sys.exit(main(sys.argv[1:]))
