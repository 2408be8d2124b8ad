"""`python -m sextant_data_prep worker` consumes jobs; `work DIRECTORY` does the work of one."""

import sys

from sextant_data_prep.app import main

sys.exit(main(sys.argv[1:]))
