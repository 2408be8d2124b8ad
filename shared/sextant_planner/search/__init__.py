"""Finds the plan: every way to split the devices, the best stages of each, the fastest that fits."""
