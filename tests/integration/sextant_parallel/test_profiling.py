"""Profiles say what is there: shapes by fake tensors, times by running, links by sending."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.bench.ranks import run
from torch import nn

from sextant_parallel import DynamicParallel
from sextant_parallel.profiling import cache
from sextant_parallel.profiling.cache import key
from sextant_parallel.profiling.device import measure_device
from sextant_parallel.profiling.links import measure_cluster
from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_planner import catalogue
from sextant_planner.cluster import Cluster, Device
from sextant_planner.model import ModelProfile
from sextant_zoo import build

GPT = {"hidden": 64, "layers": 2, "heads": 4, "vocabulary": 100, "sequence": 32, "style": "gpt"}


def test_a_chain_of_linear_layers_is_read_off_exactly() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    profile = trace(model, torch.zeros(5, 8))
    first, between, last = profile.blocks
    assert (first.parameters, last.parameters) == (8 * 16 + 16, 16 * 4 + 4)
    assert first.forward_flops == 2 * 8 * 16
    assert last.forward_flops == 2 * 16 * 4
    assert between.forward_flops == 0
    assert between.traffic_bytes + between.shared_traffic_bytes == 2 * 4 * 16
    assert (first.output_bytes, last.output_bytes) == (4 * 16, 4 * 4)
    # ReLU keeps its result, which is what the last layer keeps of its input.
    assert between.activation_bytes == 4 * 16
    assert last.activation_bytes == 0


def test_a_transformer_layer_has_megatrons_split() -> None:
    profile = trace(build("decoder", GPT, (32,), 100), torch.zeros(2, 32, dtype=torch.int64), name="gpt")
    layer = profile.blocks[1]
    # A query sees half of the keys, on average.
    assert layer.forward_flops == pytest.approx(24 * 32 * 64**2 + 4 * 32 * 16 * 64)
    assert layer.tensor is not None
    assert layer.tensor.limit == 4
    assert layer.tensor.reduce_bytes == layer.tensor.reduce_bytes_backward == 2 * 4 * 32 * 64
    assert layer.tensor.reductions == 2
    assert layer.tensor.sequence
    assert layer.context is not None
    assert profile.sequence == 32
    assert not profile.batch_coupled


def test_where_every_position_sees_all_attention_is_whole() -> None:
    profile = trace(build("encoder", {"hidden": 64, "layers": 1, "heads": 4}, (32,), 5), torch.zeros(2, 32).long())
    attention = [product for product in profile.blocks[1].products if product.count]
    assert [product.flops for product in attention] == [2 * 32 * 32 * 64] * 2


@pytest.mark.parametrize("style", ["gpt", "llama"])
def test_a_model_without_memory_is_traced_as_one_with_it(style: str) -> None:
    """Attention above all: on `meta` torch would write its scores out."""
    settings = {**GPT, "style": style, "key_heads": 2}
    with torch.device("meta"):
        bare = build("decoder", settings, (32,), 100)
        tokens = torch.zeros(2, 32, dtype=torch.int64)
    profile = trace(build("decoder", settings, (32,), 100), torch.zeros(2, 32, dtype=torch.int64))
    assert trace(bare, tokens) == profile
    assert profile.blocks[1].core_recomputed
    assert profile.blocks[1].context is not None
    assert profile.blocks[1].context.key_bytes > 0


def test_a_residual_network_has_the_published_work() -> None:
    """4.09 G multiply-adds at 224 x 224: He et al., 2015, with the stride in the 3x3 convolution."""
    with torch.device("meta"):
        model = build("resnet50", {}, (3, 224, 224), 1000)
    profile = trace(model, torch.zeros(2, 3, 224, 224, device="meta"))
    assert profile.forward_flops / 2 == pytest.approx(4.09e9, rel=0.005)
    assert profile.batch_coupled
    assert sum(block.batch_norms for block in profile.blocks) == 53
    assert catalogue.model("resnet50") == profile.model_copy(update={"name": "resnet50"})


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = build("resnet50", {"width": 4, "depths": [1, 1]}, (3, 32, 32), 5).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.zeros(2, 3, 32, 32))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_sample_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch dimension"):
        trace(nn.Linear(2, 2), torch.tensor(1.0))


def test_times_are_measured_for_every_block_and_size() -> None:
    model = build("decoder", GPT, (32,), 100)
    sample = torch.zeros(1, 32, dtype=torch.int64)
    timed = with_times(trace(model, sample), model, sample, "here", sizes=(1, 4), repeats=2)
    for block in timed.blocks:
        assert [size for size, _ in block.forward_s["here"]] == [1.0, 4.0]
        assert all(seconds > 0 for _, seconds in block.forward_s["here"])
        assert 0.0 <= block.weight_share["here"] <= 1.0
        assert block.parting_s["here"] >= 0.0
    # Tokens have no gradient: all that the first block does backward is for its weights.
    assert timed.blocks[0].weight_share["here"] == 1.0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_device_is_measured() -> None:
    device = measure_device()
    assert device.flops["float32"] > 1e8
    assert device.memory_bandwidth > 1e8


def links() -> Cluster:
    device = Device(name="cpu", flops={"float32": 1e9}, memory_bytes=1e9, memory_bandwidth=1e9)
    return measure_cluster("here", device, [("near", 2), ("far", 4)], sizes=(1024, 65536), repeats=2)


def test_links_are_measured_alike_on_all_ranks() -> None:
    clusters = run(4, links)
    assert all(each == clusters[0] for each in clusters)
    near, far = clusters[0].links
    assert set(near.tables) == {"all_reduce/2", "all_gather/2", "reduce_scatter/2", "send/2"}
    assert {"all_reduce/2", "all_reduce/4", "send/2"} <= set(far.tables)
    assert all(seconds > 0 for link in (near, far) for table in link.tables.values() for _, seconds in table)


def flat() -> Cluster:
    device = Device(name="cpu", flops={"float32": 1e9}, memory_bytes=1e9, memory_bandwidth=1e9)
    return measure_cluster("here", device, [("network", 3)], sizes=(1024, 65536), repeats=2)


def test_links_of_an_odd_number_of_ranks_are_measured() -> None:
    clusters = run(3, flat)
    assert all(each == clusters[0] for each in clusters)
    assert set(clusters[0].links[0].tables) == {"all_reduce/3", "all_gather/3", "reduce_scatter/3", "send/2"}


def test_what_was_profiled_is_kept_under_what_it_follows_from(tmp_path: Path) -> None:
    profile = trace(nn.Linear(2, 2), torch.zeros(1, 2))
    name = key("linear", {"width": 2})
    assert cache.read(tmp_path, name, ModelProfile) is None
    cache.write(tmp_path, name, profile)
    assert cache.read(tmp_path, name, ModelProfile) == profile
    assert cache.read(tmp_path, key("linear", {"width": 3}), ModelProfile) is None


def planned(directory: str) -> list[tuple[ModelProfile, Cluster, float]]:
    config = {"auto_tune": True, "global_batch": 8}
    model, sample = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)), torch.zeros(2, 16)
    both = [DynamicParallel(config, model=model, sample=sample, cache=Path(directory)) for _ in range(2)]
    plans = [each.optimize() for each in both]
    return [(plan.decision.model, each.cluster, plan.prediction.step_s) for each, plan in zip(both, plans, strict=True)]


def test_what_ranks_have_measured_is_not_measured_again(tmp_path: Path) -> None:
    first, second = run(2, planned, str(tmp_path))
    # Each rank decides by them for itself later on, and all must decide alike.
    assert first == second
    # Measured times differ from one measurement to the next, so equal ones come from the first.
    assert first[0] == first[1]
    assert {file.name.partition("-")[0] for file in tmp_path.iterdir()} == {"Cluster", "ModelProfile"}
