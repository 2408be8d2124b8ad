"""`python -m sextant` is the command, for where the script is not on the path."""

from sextant.command import main

main()
