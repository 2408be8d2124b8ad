"""The parallel engine: trains over the ranks of a gang. A library, usable alone; knows torch, not the platform."""

from sextant_parallel.data_parallel import DataParallel
from sextant_parallel.order import GlobalOrder
from sextant_parallel.world import World, join, leave

__all__ = ["DataParallel", "GlobalOrder", "World", "join", "leave"]
