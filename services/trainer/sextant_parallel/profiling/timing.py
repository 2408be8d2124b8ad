"""How long the blocks of a model take on the device at hand: forward and backward, at a few micro-batch sizes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from sextant_parallel.profiling.carry import Carry, like, run_block, tensors_of
from sextant_parallel.runtime.chain import chain_of
from sextant_planner.model import ModelProfile, Points

T = TypeVar("T")


def with_times(
    profile: ModelProfile,
    model: nn.Module,
    sample: Carry,
    device_name: str,
    *,
    sizes: Sequence[int] = (1, 2, 4),
    repeats: int = 5,
) -> ModelProfile:
    """`profile` with the times of the model's blocks under `device_name`.

    The model runs where its parameters are, in training mode; it keeps its mode, and its gradients are cleared.
    `sample` has a batch of any size: its first item is repeated. Times are medians of `repeats`, after one warm-up;
    what the gradients of weights take of the backward pass is that of the largest size.
    """
    training = model.training
    model.train()
    measured: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {}
    parted: dict[str, tuple[float, float]] = {}
    for size in sizes:
        carry = _repeated(sample, size)
        for name, block in chain_of(model).blocks.items():
            if size == sizes[-1]:
                parted[name] = _parted(block, carry, repeats)
            forward, backward, carry = _block(block, carry, repeats)
            points = measured.setdefault(name, ([], []))
            points[0].append((float(size), forward))
            points[1].append((float(size), backward))
    model.zero_grad(set_to_none=True)
    model.train(training)
    blocks = tuple(
        block.model_copy(
            update={
                "forward_s": {**block.forward_s, device_name: _rising(measured[block.name][0])},
                "backward_s": {**block.backward_s, device_name: _rising(measured[block.name][1])},
                "weight_share": {**block.weight_share, device_name: parted[block.name][0]},
                "parting_s": {**block.parting_s, device_name: parted[block.name][1]},
            }
        )
        for block in profile.blocks
    )
    return profile.model_copy(update={"blocks": blocks})


def _block(block: nn.Module, carry: Carry, repeats: int) -> tuple[float, float, Carry]:
    forwards, backwards = [], []
    result = carry
    for number in range(repeats + 1):
        forward, result = _timed(partial(run_block, block, _leaves(carry)))
        wanted = [tensor for tensor in tensors_of(result) if tensor.requires_grad]
        backward, _ = _timed(partial(_backward, wanted, [torch.ones_like(tensor) for tensor in wanted]))
        if number:
            forwards.append(forward)
            backwards.append(backward)
    return statistics.median(forwards), statistics.median(backwards), _detached(result)


def _parted(block: nn.Module, carry: Carry, repeats: int) -> tuple[float, float]:
    """Of a backward pass the share that makes gradients of weights, and the seconds that it takes more in two parts,
    as zero-bubble schedules run it. All of it where nothing wants gradients of the inputs; none where torch cannot."""
    # Not before it is needed: it brings in 27 MB of symbolic algebra.
    from torch.distributed.pipelining._backward import stage_backward_input, stage_backward_weight

    whole, inputs, weights = [], [], []
    for number in range(2 * repeats):
        leaves = _leaves(carry)
        result = run_block(block, leaves)
        # Copies, as in a pipeline: views cannot be detached in place.
        wanted = [tensor.clone() for tensor in tensors_of(result) if tensor.requires_grad]
        ones = [torch.ones_like(tensor) for tensor in wanted]
        given = [tensor for tensor in tensors_of(leaves) if tensor.requires_grad]
        if not wanted or not given:
            return 1.0, 0.0
        if number % 2:
            whole.append(_timed(partial(_backward, wanted, ones))[0])
            continue
        try:
            seconds, (_, groups) = _timed(partial(stage_backward_input, wanted, ones, given, block.parameters()))
            inputs.append(seconds)
            weights.append(_timed(partial(stage_backward_weight, block.parameters(), groups))[0])
        except RuntimeError:
            return 0.0, 0.0
    taken, first, second = (statistics.median(each) for each in (whole, inputs, weights))
    return min(1.0, max(0.0, 1.0 - first / taken)), max(0.0, first + second - taken)


def _backward(wanted: list[Tensor], gradients: list[Tensor]) -> None:
    if wanted:
        torch.autograd.backward(wanted, gradients)


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    made = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, made


def _repeated(sample: Carry, size: int) -> Carry:
    return like(sample, tuple(t[:1].expand(size, *t.shape[1:]).contiguous() for t in tensors_of(sample)))


def _leaves(carry: Carry) -> Carry:
    return like(carry, tuple(t.detach().requires_grad_(t.is_floating_point()) for t in tensors_of(carry)))


def _detached(carry: Carry) -> Carry:
    return like(carry, tuple(t.detach() for t in tensors_of(carry)))


def _rising(points: list[tuple[float, float]]) -> Points:
    """Noise must not make a larger batch look faster: the planner goes on along the last segment."""
    made: list[tuple[float, float]] = []
    for size, seconds in points:
        made.append((size, max(seconds, made[-1][1] if made else 0.0)))
    return tuple(made)
