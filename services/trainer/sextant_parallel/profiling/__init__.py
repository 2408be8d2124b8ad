"""Measures what the planner needs: what a model does, how long its blocks take here, and what the network carries."""
