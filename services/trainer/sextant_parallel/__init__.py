"""The parallel engine: finds, runs and changes plans over the ranks of a gang. A library; knows torch alone."""

from sextant_parallel.data_parallel import DataParallel
from sextant_parallel.dynamic import DynamicParallel
from sextant_parallel.fit import Training
from sextant_parallel.optimized import OptimizedPlan
from sextant_parallel.order import GlobalOrder
from sextant_parallel.world import World, join, leave

__all__ = ["DataParallel", "DynamicParallel", "GlobalOrder", "OptimizedPlan", "Training", "World", "join", "leave"]
