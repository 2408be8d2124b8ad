"""Reads off a model what the planner wants to know, by one forward pass over fake tensors: no memory, no arithmetic.

Matrix products and convolutions with their shapes, bytes that the other operations move, what autograd saves, what
blocks hand over, and how tensor and context parallelism would take a block apart, by the rules that it declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from sextant_parallel.profiling.carry import Carry, like, tensors_of
from sextant_parallel.profiling.operations import Recorder, bytes_of, storage_of
from sextant_parallel.runtime.chain import Rule, chain_of, rules_of, sequence_of
from sextant_planner.model import BlockProfile, ContextSplit, MatrixProduct, ModelProfile, TensorSplit

SUMMED = (Rule.ROW, Rule.CONV_ROW, Rule.EMBEDDING)
COLUMNS = (Rule.COLUMN, Rule.COLUMN_GATHERED, Rule.CONV_COLUMN)
SPLITTING = (*SUMMED, *COLUMNS, Rule.CONV_NORM)
SPLIT_BY: dict[Rule | None, Literal["columns", "inner"]] = {
    **dict.fromkeys(COLUMNS, "columns"),
    **dict.fromkeys((Rule.ROW, Rule.CONV_ROW), "inner"),
}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def trace(model: nn.Module, sample: Carry, *, name: str = "model", optimizer_bytes: int = 8) -> ModelProfile:
    """The profile of `model` for inputs like `sample`, whose first dimension is the batch.

    Raises ValueError where the sample has no batch dimension. The model is left as it was.
    """
    first = tensors_of(sample)[0]
    if not first.dim() or not first.shape[0]:
        raise ValueError("the sample must have a batch dimension of 1 or more")
    batch = first.shape[0]
    tracer = _Tracer(batch)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        carry: Carry = _fake(mode, sample)
        profiles = []
        for block_name, block in chain_of(model).blocks.items():
            profile, carry = tracer.block(mode, block_name, block, carry)
            profiles.append(profile)
    floats = [p.element_size() for p in model.parameters() if p.is_floating_point()]
    coupled = any(isinstance(module, BATCH_NORMS) for module in model.modules())
    return ModelProfile(
        name=name,
        blocks=tuple(profiles),
        precision_bytes=max(floats, default=4),
        sequence=first.shape[1] if first.dim() > 1 and not first.is_floating_point() else 1,
        batch_coupled=coupled,
        optimizer_bytes=optimizer_bytes,
    )


class _Tracer:
    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._saved: dict[int, Tensor] = {}

    def block(self, mode: FakeTensorMode, name: str, block: nn.Module, carry: Carry) -> tuple[BlockProfile, Carry]:
        weights = {key: _detached(mode, value) for key, value in block.named_parameters()}
        buffers = {key: _fake_one(mode, value) for key, value in block.named_buffers()}
        self._saved |= {storage_of(tensor): tensor for tensor in (*weights.values(), *buffers.values())}
        recorder = Recorder(self._saved)
        with recorder.within(block), _training_untouched(block):
            arguments = tensors_of(carry)
            result: Carry = functional_call(block, {**weights, **buffers}, arguments)
        given = sum(bytes_of(tensor) for tensor in tensors_of(result))
        profile = self._profile(name, block, recorder, given)
        return profile, _passed_on(result)

    def _profile(self, name: str, block: nn.Module, recorder: Recorder, given: int) -> BlockProfile:
        rules = rules_of(block)
        limit = int(getattr(block, "tensor_limit", 1))
        split = _split_modules(rules) if limit > 1 else set()
        inside = sum(recorder.traffic_under(part) for part in split)
        norms = [part.num_features for part in block.modules() if isinstance(part, BATCH_NORMS)]
        return BlockProfile(
            name=name,
            kind=getattr(block, "kind", type(block).__name__),
            parameters=sum(p.numel() for p in block.parameters()),
            products=tuple(self._products(recorder, rules, bool(split))),
            traffic_bytes=inside / self._batch,
            shared_traffic_bytes=max(0, recorder.traffic - inside) / self._batch,
            core_recomputed=recorder.fused_attention,
            activation_bytes=recorder.saved_bytes / self._batch,
            output_bytes=given / self._batch,
            buffer_bytes=sum(bytes_of(b) for b in block.buffers()),
            batch_norms=len(norms),
            normalised=sum(norms),
            tensor=self._tensor_split(block, limit, rules, recorder, split) if split else None,
            context=self._context_split(block, recorder),
            operations=recorder.others,
        )

    def _products(self, recorder: Recorder, rules: Mapping[str, Rule], split: bool) -> Iterator[MatrixProduct]:
        for product in recorder.products:
            how: Literal["columns", "inner", "count", "none"] = "none"
            if split:
                how = "count" if product.count else SPLIT_BY.get(rules.get(product.module), "none")
            yield MatrixProduct(
                rows=product.rows if product.count else product.rows / self._batch,
                columns=product.columns,
                inner=product.inner,
                count=product.count / self._batch,
                split=how,
                weight=not product.count,
            )

    def _tensor_split(
        self, block: nn.Module, limit: int, rules: Mapping[str, Rule], recorder: Recorder, split: set[str]
    ) -> TensorSplit:
        modules = dict(block.named_modules())
        held = sum(p.numel() for part in rules if rules[part] in SPLITTING for p in modules[part].parameters())
        summed = [part for part, rule in rules.items() if rule in SUMMED or rule is Rule.COLUMN_GATHERED]
        inputs = {recorder.input_of(part) for part, rule in rules.items() if rule in COLUMNS}
        saved = sum(recorder.saved_under(part) for part in split)
        return TensorSplit(
            limit=limit,
            parameters=held / max(1, sum(p.numel() for p in block.parameters())),
            activations=min(1.0, saved / max(1, recorder.saved_bytes)),
            reduce_bytes=sum(recorder.output_bytes_of(part) for part in summed) / self._batch,
            reduce_bytes_backward=sum(count for _, count in inputs) / self._batch,
            reductions=max(1, len(summed)),
            sequence=Rule.SEQUENCE_NORM in rules.values(),
        )

    def _context_split(self, block: nn.Module, recorder: Recorder) -> ContextSplit | None:
        if sequence_of(block) not in ("split", "tokens"):
            return None
        return ContextSplit(key_bytes=recorder.key_bytes / self._batch)


def _split_modules(rules: Mapping[str, Rule]) -> set[str]:
    """Submodules within which each rank works on its own part: the parents of columns and rows, or they themselves."""
    return {name.rpartition(".")[0] or name for name, rule in rules.items() if rule in SPLITTING}


@contextmanager
def _training_untouched(block: nn.Module) -> Iterator[None]:
    """In training mode for the pass, as before it afterwards."""
    before = {module: module.training for module in block.modules()}
    block.train()
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _fake(mode: FakeTensorMode, carry: Carry) -> Carry:
    return like(carry, tuple(_fake_one(mode, tensor) for tensor in tensors_of(carry)))


def _fake_one(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """Tensors on `meta` as if they were on the processor: on `meta` torch writes attention out, as no device does."""
    if tensor.is_meta:
        with mode:
            return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
    made: Tensor = mode.from_tensor(tensor.detach())
    return made


def _detached(mode: FakeTensorMode, parameter: Tensor) -> Tensor:
    return _fake_one(mode, parameter).requires_grad_(parameter.requires_grad)


def _passed_on(result: Carry) -> Carry:
    """As the next block gets it: a leaf that wants a gradient where it has one."""
    return like(result, tuple(t.detach().requires_grad_(t.requires_grad) for t in tensors_of(result)))
