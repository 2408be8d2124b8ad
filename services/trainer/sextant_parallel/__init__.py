"""The parallel engine: finds, runs and changes plans over the ranks of a gang. A library; knows torch alone."""

from sextant_parallel.dynamic import DynamicParallel
from sextant_parallel.fit import Training, Watcher
from sextant_parallel.optimized import OptimizedPlan
from sextant_parallel.order import GlobalOrder
from sextant_parallel.world import join, leave

__all__ = ["DynamicParallel", "GlobalOrder", "OptimizedPlan", "Training", "Watcher", "join", "leave"]
