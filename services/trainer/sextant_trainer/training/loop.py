"""A training run of the platform: what goes on beside the steps, from the last checkpoint to the best weights."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sextant_parallel import GlobalOrder, Training, Watcher
from sextant_parallel.fit import Checkpoints, Fit
from sextant_parallel.world import leads
from sextant_shared.errors import WorkFailed
from sextant_shared.execution.workbench import Workbench
from sextant_trainer.training.augmentation import vary
from sextant_trainer.training.data import Dataset
from sextant_trainer.training.planning import choose
from sextant_trainer.training.recipe import Recipe, build_model, build_optimizer, rate_at

PLAN_JSON, PLAN_SVG = "plan.json", "plan.svg"
REPORT_EVERY_S = 0.5
VALIDATION_ROWS = 512
"""Rows of a data-parallel rank that are validated at a time, about."""
NO_TARGET = -100
"""The target of rows that fill up a batch; torch's losses ignore it."""


@dataclass(slots=True)
class Best:
    """The weights of the best epoch so far, by validation accuracy, then loss."""

    epoch: int = -1
    metrics: dict[str, float] | None = None

    def improves(self, metrics: dict[str, float]) -> bool:
        """Whether `metrics` are better."""
        if self.metrics is None:
            return True
        old, new = self.metrics, metrics
        return (new["val_accuracy"], -new["val_loss"]) > (old["val_accuracy"], -old["val_loss"])


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank is on its node."""

    one_node: bool = True
    """Whether all ranks are on this node."""
    first: bool = True
    """Whether it speaks for this node: it hands over the node's part of each checkpoint, and is asked to pause."""


class Trainer(Watcher):
    """One rank's part of a training run."""

    stoppable = True

    def __init__(self, bench: Workbench, recipe: Recipe, data: Dataset, profiles: Path, part: Part) -> None:
        """Plans; every rank of the world makes it. Raises InvalidInput where the ranks cannot train together."""
        self._bench, self._recipe, self._data, self._part = bench, recipe, data, part
        config = recipe.config
        self._order = GlobalOrder(len(data.splits["train"]), config.batch_size, config.seed)
        self._steps = self._order.steps(config.epochs)
        rows = np.arange(min(4, self._order.batch))
        sample = data.batch("train", rows)[0]
        model = build_model(recipe, data)
        self.planned = choose(recipe, self._order.batch, model, sample, profiles=profiles, may_remesh=part.one_node)
        self.curve: list[dict[str, float]] = []
        """One row of figures an epoch."""
        self.step_s: list[float] = []
        """Seconds of each step of this attempt."""
        self._best = Best()
        self._best_state: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._pause = False
        self._began, self._reported = time.monotonic(), 0.0

    def run(self) -> dict[str, Tensor] | None:
        """Train to the end; on rank 0 the weights of the best epoch, elsewhere none. None where the run was paused."""
        if self._part.first:
            signal.signal(signal.SIGUSR1, self._ask_to_pause)
        if leads():
            self._explain()
        resume = self._bench.order.resume
        checkpoints = Checkpoints(
            self._bench.out / "checkpoints",
            self._hand_over if self._part.first else None,
            start=Path(resume.path) if resume else None,
            every=self._recipe.config.checkpoint_every_steps,
        )
        fit = Fit(self._training(), self.planned.plan, checkpoints, watcher=self, rebalancer=self.planned.rebalancer)
        self._began = time.monotonic()
        history = fit.run()
        self.step_s = history.step_s
        return None if history.stopped else fit.runtime.gather(self._best_state)

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the best epoch."""
        return self._best.metrics or {}

    def began(self, run: Fit) -> None:
        """Whatever is loaded next takes the layout of the runtime."""
        self._best_state = run.runtime.state()

    def stepped(self, run: Fit, loss: float) -> None:
        """Report, and validate at the end of an epoch."""
        if not math.isfinite(loss):
            raise WorkFailed(f"the loss is not finite at step {run.step}; try a lower learning rate")
        self._losses.append(loss)
        self._report(run, loss)
        epoch = self._order.ended(run.step)
        if epoch is not None:
            self._end_epoch(run, epoch)

    def wants_to_stop(self) -> bool:
        """Asked to pause."""
        return self._pause

    def extra(self) -> dict[str, Any]:
        """The curve and the best weights."""
        notes = {
            "curve": self.curve,
            "best": self._best.metrics,
            "best_epoch": self._best.epoch,
            "losses": self._losses,
        }
        return {"notes": json.dumps(notes), "best": self._best_state}

    def restore(self, extra: dict[str, Any]) -> None:
        """Go on from there."""
        notes = json.loads(extra["notes"])
        self.curve, self._losses = notes["curve"], notes["losses"]
        self._best = Best(notes["best_epoch"], notes["best"])
        self._best_state = extra["best"]

    def _training(self) -> Training:
        recipe, config, data = self._recipe, self._recipe.config, self._data
        return Training(
            model=lambda: build_model(recipe, data),
            batches=self._batch,
            loss=self._loss,
            optimizer=lambda groups: build_optimizer(groups, config),
            steps=self._steps,
            rate=lambda step: rate_at(step, config, self._steps),
            seed=config.seed,
        )

    def _batch(self, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        order, config = self._order, self._recipe.config
        inputs, targets = self._data.batch("train", order.batch_at(step)[rows])
        if config.augment is not None:
            seed = hash((config.seed, step)) % 2**63
            inputs = vary(inputs, config.augment, seed, np.arange(rows.start, rows.stop), order.batch)
        return inputs, targets

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self._recipe.config.label_smoothing
        return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)

    def _end_epoch(self, run: Fit, epoch: int) -> None:
        loss, accuracy = self._validate(run)
        metrics = {
            "epoch": float(epoch),
            "train_loss": float(np.mean(self._losses)),
            "val_loss": loss,
            "val_accuracy": accuracy,
        }
        self._losses = []
        self.curve.append(metrics)
        if self._best.improves(metrics):
            self._best = Best(epoch - 1, metrics)
            self._best_state = run.runtime.state()
        self._report(run, metrics["train_loss"], force=True)

    def _validate(self, run: Fit) -> tuple[float, float]:
        """Mean loss and accuracy over the validation split."""
        runtime, plan = run.runtime, run.runtime.plan
        count = len(self._data.splits["val"])
        # Multiples of the global batch: every plan can share them out.
        size = plan.global_batch * max(1, VALIDATION_ROWS * plan.dp // plan.global_batch)
        sums = torch.zeros(2, dtype=torch.float64)
        for start in range(0, count, size):
            places = np.arange(start, start + size)[runtime.rows_of(size)]
            inputs, targets = self._data.batch("val", np.minimum(places, count - 1))
            targets[torch.from_numpy(places >= count)] = NO_TARGET
            sums += runtime.measure(inputs, targets, _loss_and_hits).cpu().double()
        loss, hits = (sums / count).tolist()
        return loss, hits

    def _report(self, run: Fit, loss: float, *, force: bool = False) -> None:
        now, done = time.monotonic(), run.step - run.history.began_at
        if not leads() or not (force or done == 1 or now - self._reported >= REPORT_EVERY_S):
            return
        self._reported = now
        rate = done / max(1e-9, now - self._began)
        metrics = {
            "step": float(run.step),
            "loss": loss,
            "samples_per_s": rate * self._order.batch,
            "step_ms": 1000.0 / rate,
            "eta_s": (self._steps - run.step) / rate,
            "epoch": run.step * self._order.batch / self._order.rows,
        }
        if self.planned.predicted_s:
            metrics["predicted_step_ms"] = 1000.0 * self.planned.predicted_s
        if self.curve:
            metrics |= {key: self.curve[-1][key] for key in ("val_accuracy", "val_loss")}
        self._bench.progress(run.step / self._steps, f"step {run.step} of {self._steps}", metrics)

    def _explain(self) -> None:
        optimized = self.planned.optimized
        if optimized is None:
            return
        sys.stdout.write(optimized.explain())
        (self._bench.out / PLAN_JSON).write_text(optimized.to_json())
        (self._bench.out / PLAN_SVG).write_text(optimized.picture())

    def _hand_over(self, checkpoint: Path, step: int) -> None:
        path = checkpoint.relative_to(self._bench.out).as_posix()
        self._bench.checkpoint(path, step=step, samples=step * self._order.batch)

    def _ask_to_pause(self, *_: object) -> None:
        self._pause = True


def _loss_and_hits(logits: Tensor, targets: Tensor) -> Tensor:
    loss = functional.cross_entropy(logits, targets, reduction="sum")
    return torch.stack([loss, (logits.argmax(1) == targets).sum().to(loss.dtype)])
