"""What a plan costs: time and memory of a step, from the profiles alone."""
