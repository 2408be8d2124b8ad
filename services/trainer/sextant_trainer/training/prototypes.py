"""Classes that begin where their rows are: a pretrained model's head starts from the mean of what it sees of each.

Source: nearest class means, as in Snell et al., "Prototypical Networks for Few-shot Learning" (2017). Before the first
step the model then calls most rows rightly, and what was pretrained is not pulled about by a head that knows nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks import Task
from sextant_zoo.cosine import CosineLinear
from sextant_zoo.heads import classifier

SPREAD = 16.0
"""The logit of a row that is its class's mean, of the usual length, where the head is a plain one."""
BATCH = 128
LOOKED = 20


def find(model: nn.Module, task: Task, rows: int, seed: int) -> Tensor:
    """The head's weights (classes, features), from so many training rows of each class, or as many as it has.

    Raises InvalidInput where the model has no linear layer that gives the classes.
    """
    head = head_of(model)
    chosen = _drawn(task, rows, seed)
    features: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: features.append(given[0].detach().float()))
    was_training = model.training
    model.eval()
    targets = []
    try:
        with torch.no_grad():
            for start in range(0, len(chosen), BATCH):
                inputs, labels = task.batch("train", chosen[start : start + BATCH])
                model(inputs)
                targets.append(labels)
    finally:
        hook.remove()
        model.train(was_training)
    return _means(torch.cat(features), torch.cat(targets), head)


def _drawn(task: Task, rows: int, seed: int) -> NDArray[np.int64]:
    """Rows at random, so many of each class; no more than LOOKED times as many are looked at for rare ones."""
    left = np.full(task.outputs, rows)
    order = np.random.default_rng(seed).permutation(task.rows("train"))[: LOOKED * rows * task.outputs]
    chosen: list[int] = []
    for start in range(0, len(order), BATCH):
        part = np.sort(order[start : start + BATCH])
        for row, label in zip(part.tolist(), task.batch("train", part)[1].tolist(), strict=True):
            if 0 <= label < task.outputs and left[label]:
                left[label] -= 1
                chosen.append(row)
        if not left.any():
            break
    return np.sort(np.array(chosen, np.int64))


def begin(model: nn.Module, weights: Tensor) -> None:
    """Give the head these weights, and no bias."""
    head = head_of(model)
    with torch.no_grad():
        head.weight.copy_(weights)
        if head.bias is not None:
            head.bias.zero_()


def head_of(model: nn.Module) -> nn.Linear:
    """The layer that gives the classes. Raises InvalidInput where there is none."""
    head = classifier(model)
    if head is None:
        raise InvalidInput("the model has no linear head", field="config.prototypes", accepted="null")
    return head


def _means(features: Tensor, targets: Tensor, head: nn.Linear) -> Tensor:
    """Directions of the classes' means, as long as SPREAD asks for, or of length 1 where length counts for nothing; a
    class without a row stays as it is.
    """
    sums = torch.zeros(head.out_features, features.shape[1])
    sums.index_add_(0, targets, functional.normalize(features, dim=1))
    length = 1.0 if isinstance(head, CosineLinear) else SPREAD / float(features.norm(dim=1).mean().clamp(min=1e-6))
    means = functional.normalize(sums, dim=1) * length
    seen = torch.bincount(targets, minlength=head.out_features) > 0
    return torch.where(seen[:, None], means, head.weight.detach())
