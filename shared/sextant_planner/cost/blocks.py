"""The time of one block's passes on one rank: compute, and the communication inside the block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from sextant_planner.cluster import Cluster, Collective, Device
from sextant_planner.cost.collectives import collective_s
from sextant_planner.cost.products import BACKWARD_TRAFFIC, CORE_BACKWARD_TRAFFIC, Arithmetic
from sextant_planner.model import BlockProfile, interpolate
from sextant_planner.plan import Precision
from sextant_planner.traits import RuntimeTraits


@dataclass(frozen=True, slots=True)
class Passes:
    """Seconds of one micro-batch in one block; communication stands apart, and is not in the compute."""

    forward: float
    backward: float
    forward_comm: float
    backward_comm: float
    weight: float
    """The part of `backward` that computes weight gradients, which nothing waits for."""
    parting: float = 0.0
    """What this part takes more where it is put off, as zero-bubble schedules do."""

    def recomputed(self) -> Passes:
        """With the forward pass run again before the backward pass."""
        comm = self.backward_comm + self.forward_comm
        return replace(self, backward=self.backward + self.forward, backward_comm=comm)

    def slowed(self, factor: float) -> Passes:
        """On a rank that computes `factor` times as slowly."""
        slower = {name: getattr(self, name) * factor for name in ("forward", "backward", "weight", "parting")}
        return replace(self, **slower)


@dataclass(frozen=True)
class BlockCosts:
    """Prices blocks on one kind of device of a cluster."""

    cluster: Cluster
    device: Device
    precision: Precision
    traits: RuntimeTraits
    scale: float = 1.0
    """Bytes of a number as computed, over those in the model's profile."""

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """The device's times."""
        return Arithmetic(self.device, self.precision)

    def passes(self, block: BlockProfile, samples: float, tp: int, cp: int, *, sequence_parallel: bool) -> Passes:
        """`samples` of one micro-batch through `block`, which `tp` ranks share, and `cp` the sequence of."""
        split = tp if block.tensor is not None else 1
        if self.device.name in block.forward_s and self.device.name in block.backward_s:
            forward, backward, weight = self._measured(block, samples / cp, split)
        else:
            forward, backward, weight = self._computed(block, samples / cp, split, sequence_parallel)
        forward_comm, backward_comm = self._tensor_comm(block, samples / cp, split, sequence_parallel)
        hidden = weight * self.traits.tensor_overlap
        keys = self._keys(block, samples, tp, cp)
        backward_comm = max(0.0, backward_comm - hidden) + 2 * keys
        parting = block.parting_s.get(self.device.name, 0.0)
        return Passes(forward, backward, forward_comm + keys, backward_comm, weight, parting)

    def _measured(self, block: BlockProfile, samples: float, tp: int) -> tuple[float, float, float]:
        share = 1.0
        if tp > 1 and block.forward_flops:
            kept = sum(product.flops for product in block.products if product.split == "none")
            share = (kept + (block.forward_flops - kept) / tp) / block.forward_flops
        elif tp > 1:
            share = 1 / tp
        forward = interpolate(block.forward_s[self.device.name], samples) * share
        backward = interpolate(block.backward_s[self.device.name], samples) * share
        return forward, backward, backward * block.weight_share.get(self.device.name, 0.5)

    def _computed(self, block: BlockProfile, samples: float, tp: int, sp: bool) -> tuple[float, float, float]:
        time = self.arithmetic
        traits = self.traits
        moved = samples * self.scale * (block.traffic_bytes / tp + block.shared_traffic_bytes / (tp if sp else 1))
        core_moved = samples * self.scale * block.core_traffic_bytes / tp
        products = [p for p in block.products if p.weight]
        core = [p for p in block.products if not p.weight]
        starting = time.operations_s(block.operations)
        core_forward = sum(time.forward_s(p, samples, tp) for p in core) + time.move_s(core_moved)
        forward = sum(time.forward_s(p, samples, tp) for p in products) + time.move_s(moved) + core_forward + starting
        fused = traits.fused_accumulation
        weight = sum(time.weight_gradient_s(p, samples, tp, fused=fused) for p in products)
        inputs = sum(time.input_gradient_s(p, samples, tp) for p in products)
        core_backward = sum(
            time.input_gradient_s(p, samples, tp) + time.weight_gradient_s(p, samples, tp, fused=False) for p in core
        )
        core_backward += CORE_BACKWARD_TRAFFIC * time.move_s(core_moved)
        backward = inputs + weight + BACKWARD_TRAFFIC * time.move_s(moved) + core_backward + starting
        return forward, backward + (core_forward if block.core_recomputed else 0.0), weight

    def accumulation_s(self, block: BlockProfile, tp: int) -> float:
        """Adding the gradients of one micro-batch to those before it."""
        if self.traits.fused_accumulation or not self.device.multiprocessors:
            return 0.0
        return self.arithmetic.move_s(block.held(tp) * self.traits.accumulation_bytes)

    def _tensor_comm(self, block: BlockProfile, samples: float, tp: int, sp: bool) -> tuple[float, float]:
        if tp == 1 or block.tensor is None or not block.tensor.reductions:
            return 0.0, 0.0
        split, samples = block.tensor, samples * self.scale
        forward = self._reduce_s(samples * split.reduce_bytes, split.reductions, tp)
        backward = forward
        if split.reduce_bytes_backward is not None:
            backward = self._reduce_s(samples * split.reduce_bytes_backward, split.reductions, tp)
        return forward, backward * (1 + self.traits.sequence_extra if sp else 1.0)

    def _reduce_s(self, count: float, times: int, tp: int) -> float:
        return times * collective_s(self.cluster, Collective.ALL_REDUCE, count / times, tp, 1)

    def _keys(self, block: BlockProfile, samples: float, tp: int, cp: int) -> float:
        if cp == 1 or block.context is None:
            return 0.0
        held = samples * self.scale * block.context.key_bytes / (tp if block.tensor else 1)
        return collective_s(self.cluster, Collective.ALL_GATHER, held, cp, tp)
