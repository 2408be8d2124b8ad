"""The training loop: from the last checkpoint to the last step, with validation after each epoch."""

from __future__ import annotations

import json
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel import DataParallel, GlobalOrder, World, checkpoint
from sextant_shared.errors import WorkFailed
from sextant_shared.execution.workbench import Workbench
from sextant_trainer.training.augmentation import vary
from sextant_trainer.training.data import Dataset
from sextant_trainer.training.plan import Plan, build_model, build_optimizer, build_schedule

REPORT_EVERY_S = 0.5
VALIDATION_BATCH = 512
KEPT_CHECKPOINTS = 2


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


class Stopped(Exception):
    """The run was asked to stop and has saved a checkpoint."""


class Trainer:
    """One rank's part of a training run."""

    def __init__(self, bench: Workbench, plan: Plan, data: Dataset, world: World) -> None:
        self._bench, self._plan, self._data, self._world = bench, plan, data, world
        config = plan.config
        self._order = GlobalOrder(len(data.splits["train"]), config.batch_size, config.seed)
        self._steps = self._order.steps_per_epoch * config.epochs
        self.model = build_model(plan, data)
        self._engine = DataParallel(self.model, world)
        self._optimizer = build_optimizer(self.model, config)
        self._best = Best()
        self._best_state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._curve: list[dict[str, float]] = []
        self._pause = False
        self._done = 0
        self._resume()
        self._schedule = build_schedule(self._optimizer, config, self._steps, self._done)
        self._began, self._reported, self._first = time.monotonic(), 0.0, self._done
        self._saved: list[int] = []

    def run(self) -> dict[str, float]:
        """Train to the end; the metrics of the best epoch, whose weights the model holds then. Raises Stopped."""
        if self._world.leads:
            signal.signal(signal.SIGUSR1, self._ask_to_pause)
        epochs, per_epoch = self._plan.config.epochs, self._order.steps_per_epoch
        for epoch in range(self._done // per_epoch, epochs):
            permutation = self._order.permutation(epoch)
            began_at = self._done - epoch * per_epoch
            losses = [self._step(permutation, index) for index in range(began_at, per_epoch)]
            self._validate(epoch, float(np.mean(losses)) if losses else math.nan)
        self.model.load_state_dict(self._best_state)
        return self._best.metrics or {}

    @property
    def curve(self) -> list[dict[str, float]]:
        """One row of figures an epoch."""
        return self._curve

    def _ask_to_pause(self, *_: object) -> None:
        self._pause = True

    def _step(self, permutation: Any, index: int) -> float:
        rows = self._order.batch_at(permutation, index)
        places = self._order.share(np.arange(len(rows)), self._world.rank, self._world.size)
        # Dropout and the like depend on the step and the rank alone, so that a resumed run draws the same.
        torch.manual_seed(hash((self._plan.config.seed, self._done, self._world.rank)) % 2**63)
        self.model.train()
        self._optimizer.zero_grad(set_to_none=False)
        inputs, targets = self._batch(rows, places if len(places) else np.zeros(1, np.int64))
        local = self._engine.backward(inputs, targets, len(rows) if len(places) else 0, self._loss)
        agreed = self._world.sum(torch.tensor([local, float(self._pause)], dtype=torch.float64))
        loss = float(agreed[0]) / len(rows)
        if not math.isfinite(loss):
            raise WorkFailed(f"the loss is not finite at step {self._done + 1}; try a lower learning rate")
        self._optimizer.step()
        self._schedule.step()
        self._done += 1
        self._report(loss)
        pausing = bool(agreed[1] > 0)
        if pausing or self._done % self._plan.config.checkpoint_every_steps == 0:
            self._save()
        if pausing:
            raise Stopped
        return loss

    def _batch(self, rows: NDArray[np.int64], places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        inputs, targets = self._data.batch("train", rows[places])
        how = self._plan.config.augment
        if how is not None:
            seed = hash((self._plan.config.seed, self._done)) % 2**63
            inputs = vary(inputs, how, seed, places, len(rows))
        return inputs, targets

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self._plan.config.label_smoothing
        return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)

    @torch.no_grad()
    def _validate(self, epoch: int, train_loss: float) -> None:
        self._engine.average_buffers()
        self.model.eval()
        rows = np.arange(len(self._data.splits["val"]))
        share = GlobalOrder.share(rows, self._world.rank, self._world.size)
        sums = torch.zeros(2, dtype=torch.float64)
        for start in range(0, len(share), VALIDATION_BATCH):
            inputs, targets = self._data.batch("val", share[start : start + VALIDATION_BATCH])
            logits = self.model(inputs)
            sums[0] += functional.cross_entropy(logits, targets, reduction="sum")
            sums[1] += (logits.argmax(1) == targets).sum()
        self._world.sum(sums)
        metrics = {
            "epoch": float(epoch + 1),
            "train_loss": train_loss,
            "val_loss": float(sums[0]) / len(rows),
            "val_accuracy": float(sums[1]) / len(rows),
        }
        self._curve.append(metrics)
        if self._best.improves(metrics):
            self._best = Best(epoch, metrics)
            self._best_state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._report(train_loss, force=True)

    def _report(self, loss: float, *, force: bool = False) -> None:
        now = time.monotonic()
        first = self._done == self._first + 1
        if not self._world.leads or not (force or first or now - self._reported >= REPORT_EVERY_S):
            return
        self._reported = now
        taken = max(1e-9, now - self._began)
        rate = (self._done - self._first) / taken
        metrics = {
            "step": float(self._done),
            "loss": loss,
            "samples_per_s": rate * self._plan.config.batch_size,
            "step_ms": 1000.0 / rate if rate else 0.0,
            "eta_s": (self._steps - self._done) / rate if rate else 0.0,
            "epoch": self._done / self._order.steps_per_epoch,
        }
        if self._curve:
            metrics |= {key: self._curve[-1][key] for key in ("val_accuracy", "val_loss")}
        self._bench.progress(self._done / self._steps, f"step {self._done} of {self._steps}", metrics)

    def _extra(self) -> dict[str, Any]:
        notes = {"curve": self._curve, "best": self._best.metrics, "best_epoch": self._best.epoch}
        return {"done": self._done, "notes": json.dumps(notes), "best": self._best_state}

    def _save(self) -> None:
        self._engine.average_buffers()
        path = f"checkpoints/step-{self._done:09d}"
        checkpoint.save(self._bench.out / path, self.model, self._optimizer, self._extra())
        self._world.barrier()
        if self._world.leads:
            samples = self._done * self._plan.config.batch_size
            self._bench.checkpoint(path, step=self._done, samples=samples)

    def _resume(self) -> None:
        resume = self._bench.order.resume
        if resume is None:
            return
        extra = checkpoint.load(Path(resume.path), self.model, self._optimizer, self._extra())
        notes = json.loads(extra["notes"])
        self._curve = notes["curve"]
        self._best = Best(notes["best_epoch"], notes["best"])
        self._best_state = extra["best"]
        self._done = int(extra["done"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's tensors as safetensors."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, str(path))
