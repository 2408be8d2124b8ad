"""A training run of the platform: what goes on beside the steps, from the last checkpoint to the best weights."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sextant_parallel import GlobalOrder, Training, Watcher
from sextant_parallel.fit import Checkpoints, Fit
from sextant_parallel.world import agree, leads
from sextant_shared.errors import WorkFailed
from sextant_shared.execution.workbench import Workbench
from sextant_trainer.training import prototypes
from sextant_trainer.training.averaging import Average
from sextant_trainer.training.planning import choose
from sextant_trainer.training.precision import full
from sextant_trainer.training.recipe import Recipe, build_model, build_optimizer, rate_at
from sextant_trainer.training.tasks import Task
from sextant_trainer.training.tasks.lessons import Lessons

PLAN_JSON, PLAN_SVG = "plan.json", "plan.svg"
REPORT_EVERY_S = 0.5
VALIDATION_ROWS = 512
"""Rows of a data-parallel rank that are validated at a time, about."""
VALIDATION_VALUES = 1 << 24
"""And at most so many numbers of theirs, 64 MB: large pictures are fewer."""


@dataclass(slots=True)
class Best:
    """The best epoch so far, counted from 0, and its figures."""

    epoch: int = -1
    metrics: dict[str, float] | None = None


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

    def __init__(
        self, bench: Workbench, recipe: Recipe, task: Task, profiles: Path, lessons: Lessons | None, part: Part
    ) -> None:
        """Plans; every rank makes it. Raises InvalidInput or PlanningError where they cannot train together."""
        self._bench, self._recipe, self._task, self._part = bench, recipe, task, part
        self._teaching = lessons or task
        config = recipe.config
        self._order = GlobalOrder(task.rows("train"), config.batch_size, config.seed)
        self._steps = self._order.steps(config.epochs)
        rows = np.arange(min(4, self._order.batch))
        sample = task.batch("train", rows)[0]
        model = build_model(recipe, task)
        self._prototypes = self._found_prototypes(model)
        self.planned = choose(recipe, self._order.batch, model, sample, profiles=profiles, may_remesh=part.one_node)
        self.curve: list[dict[str, float]] = []
        """One row of figures an epoch."""
        self.step_s: list[float] = []
        """Seconds of each step of this attempt."""
        self._best = Best()
        self._best_state: dict[str, Tensor] = {}
        self._average = Average(config.ema) if config.ema else None
        self._losses: list[float] = []
        self._pause = False
        self._began, self._reported = time.monotonic(), 0.0

    def run(self) -> dict[str, Tensor] | None:
        """Train to the end; on rank 0 the weights of the best epoch, elsewhere none. None where the run was paused."""
        if self._part.first:
            signal.signal(signal.SIGUSR1, self._ask_to_pause)
        with self.planned.minding_memory():
            return self._run()

    def _run(self) -> dict[str, Tensor] | None:
        training = self._training()
        self.planned = self.planned.probed(training)
        if leads():
            self._explain()
        resume = self._bench.order.resume
        checkpoints = Checkpoints(
            self._bench.out / "checkpoints",
            self._hand_over if self._part.first else None,
            start=Path(resume.path) if resume else None,
            every=self._recipe.config.checkpoint_every_steps,
        )
        fit = Fit(training, self.planned.plan, checkpoints, watcher=self, rebalancer=self.planned.rebalancer)
        self._began = time.monotonic()
        history = fit.run()
        self.step_s = history.step_s
        paused = history.stopped and not self._ended
        return None if paused else fit.runtime.gather(self._best_state)

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the best epoch."""
        return self._best.metrics or {}

    def began(self, run: Fit) -> None:
        """Whatever is loaded next takes the layout of the runtime."""
        self._best_state = run.runtime.state()
        if self._average:
            self._average.begin(run.runtime)

    def stepped(self, run: Fit, loss: float) -> None:
        """Report, and validate at the end of an epoch."""
        if not math.isfinite(loss):
            raise WorkFailed(f"the loss is not finite at step {run.step}; try a lower learning rate")
        self._losses.append(loss)
        if self._average:
            self._average.add(run.step)
        self._report(run, loss)
        epoch = self._order.ended(run.step)
        if epoch is not None:
            with self._average.in_place() if self._average else nullcontext():
                self._end_epoch(run, epoch)

    def wants_to_stop(self) -> bool:
        """Asked to pause, or no epoch gets better any more."""
        return self._pause or self._ended

    def extra(self) -> dict[str, Any]:
        """The curve and the best weights."""
        notes = {
            "curve": self.curve,
            "best": self._best.metrics,
            "best_epoch": self._best.epoch,
            "losses": self._losses,
        }
        averaged = {"average": self._average.state} if self._average else {}
        return {"notes": json.dumps(notes), "best": self._best_state, **averaged}

    def restore(self, extra: dict[str, Any]) -> None:
        """Go on from there."""
        notes = json.loads(extra["notes"])
        self.curve, self._losses = notes["curve"], notes["losses"]
        self._best = Best(notes["best_epoch"], notes["best"])
        self._best_state = extra["best"]
        if self._average:
            self._average.state = extra["average"]

    @property
    def _ended(self) -> bool:
        """Whether as many epochs as the config's patience have passed since the best one; on all ranks alike."""
        patience = self._recipe.config.patience
        return patience is not None and len(self.curve) - (self._best.epoch + 1) >= patience

    def _found_prototypes(self, model: nn.Module) -> Tensor | None:
        """What the head begins with, the same on all ranks; nothing where a checkpoint has what it came to."""
        rows, seed = self._recipe.config.prototypes, self._recipe.config.seed
        if rows is None or self._bench.order.resume:
            return None
        # Where there is no such head, all ranks say so: one alone would leave the others waiting.
        prototypes.head_of(model)
        return agree(prototypes.find(model, self._task, rows, seed) if leads() else None)

    def _build(self) -> nn.Module:
        model = build_model(self._recipe, self._task)
        if self._prototypes is not None:
            prototypes.begin(model, self._prototypes)
        return model

    def _training(self) -> Training:
        config = self._recipe.config
        return Training(
            model=self._build,
            batches=lambda step, rows: self._teaching.train_batch(self._order, step, rows),
            loss=lambda outputs, targets: self._teaching.loss(full(outputs), targets),
            optimizer=lambda groups: build_optimizer(groups, config),
            steps=self._steps,
            clip_norm=config.clip_norm,
            rate=lambda step: rate_at(step, config, self._steps),
            seed=config.seed,
        )

    def _end_epoch(self, run: Fit, epoch: int) -> None:
        found = {f"val_{name}": value for name, value in self._validate(run).items()}
        metrics = {"epoch": float(epoch), "train_loss": float(np.mean(self._losses)), **found}
        self._losses = []
        self.curve.append(metrics)
        if self._best.metrics is None or self._task.better(metrics, self._best.metrics):
            self._best = Best(epoch - 1, metrics)
            self._best_state = run.runtime.state()
        self._report(run, metrics["train_loss"], force=True)

    def _validate(self, run: Fit) -> dict[str, float]:
        """The task's figures over the validation split."""
        runtime, plan, task = run.runtime, run.runtime.plan, self._task
        count = task.rows("val")
        # Multiples of the global batch: every plan can share them out.
        rows = min(VALIDATION_ROWS, max(1, VALIDATION_VALUES // math.prod(task.shape)))
        size = plan.global_batch * max(1, rows * plan.dp // plan.global_batch)
        total: Tensor | None = None
        for start in range(0, count, size):
            places = np.arange(start, start + size)[runtime.rows_of(size)]
            batch = task.padded("val", places)
            sums = runtime.measure(*batch, lambda outputs, targets: task.sums(full(outputs), targets)).cpu().double()
            total = sums if total is None else total + sums
        assert total is not None  # noqa: S101 - no split is empty
        return task.metrics((total / count).tolist())

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
            metrics |= {key: value for key, value in self.curve[-1].items() if key.startswith("val_")}
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
