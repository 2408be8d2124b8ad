"""Running a user's own script: the process beside it, which gives it what it needs and tells what it did."""
