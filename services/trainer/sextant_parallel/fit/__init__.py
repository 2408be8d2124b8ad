"""Training to the end, whatever becomes of the ranks: plan, run, save, watch, plan again."""

from sextant_parallel.fit.checkpoints import Checkpoints, Latest
from sextant_parallel.fit.loop import Fit, History, Training, Watcher
from sextant_parallel.fit.probing import probe
from sextant_parallel.fit.rebalancer import Rebalancer

__all__ = ["Checkpoints", "Fit", "History", "Latest", "Rebalancer", "Training", "Watcher", "probe"]
