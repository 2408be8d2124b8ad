"""Model profiles of transformers from their dimensions alone, so that nothing has to be traced to plan one.

The operations are those of a Megatron layer: four matrix products with parameters, two of attention's core, and what
lies between them (Korthikanti et al., 2022, sections 3 and 4). Activations: their equation 1, 34sbh + 5as^2b bytes.
"""

from __future__ import annotations

from sextant_planner.model import BlockProfile, ContextSplit, MatrixProduct, ModelProfile, TensorSplit


def transformer(
    name: str, *, hidden: int, layers: int, heads: int, sequence: int, vocabulary: int, recompute_core: bool = False
) -> ModelProfile:
    """A decoder of GPT's form at 16 bits: `layers` blocks, the embedding in front and the output layer behind.

    `recompute_core`: the backward pass computes attention's core again, as in flash attention.
    """
    layer = _layer(hidden, heads, sequence, recompute_core=recompute_core)
    blocks = [_embedding(hidden, sequence, vocabulary)]
    blocks += [layer.model_copy(update={"name": f"layer.{number}"}) for number in range(layers)]
    blocks.append(_head(hidden, sequence, vocabulary))
    return ModelProfile(name=name, blocks=tuple(blocks), precision_bytes=2, sequence=sequence)


def _layer(hidden: int, heads: int, sequence: int, *, recompute_core: bool) -> BlockProfile:
    act = 2 * sequence * hidden
    scores = 2 * heads * sequence * sequence
    inner = hidden // heads
    products = (
        MatrixProduct(rows=sequence, columns=3 * hidden, inner=hidden, split="columns"),
        MatrixProduct(rows=sequence, columns=hidden, inner=hidden, split="inner"),
        MatrixProduct(rows=sequence, columns=4 * hidden, inner=hidden, split="columns"),
        MatrixProduct(rows=sequence, columns=hidden, inner=4 * hidden, split="inner"),
        MatrixProduct(rows=sequence, columns=sequence, inner=inner, count=heads, split="count", weight=False),
        MatrixProduct(rows=sequence, columns=inner, inner=sequence, count=heads, split="count", weight=False),
    )
    core = 0.0 if recompute_core else 2.5 * scores
    # Two layer norms read and write; two fused bias-dropout-adds read two, write one and a mask of a byte a number.
    shared = 2 * 2 * act + 2 * 4.5 * act
    return BlockProfile(
        name="layer",
        kind="layer",
        parameters=12 * hidden * hidden + 13 * hidden,
        products=products,
        traffic_bytes=8 * act,
        shared_traffic_bytes=shared,
        # Softmax reads and writes the scores; dropout reads, writes, and keeps a mask.
        core_traffic_bytes=4.5 * scores,
        core_recomputed=recompute_core,
        activation_bytes=17 * act + core,
        output_bytes=act,
        operations=10,
        tensor=TensorSplit(
            limit=heads,
            activations=(12 * act + core) / (17 * act + core),
            reduce_bytes=2 * act,
            reductions=2,
            sequence=True,
        ),
        context=ContextSplit(key_bytes=2 * act),
    )


def _embedding(hidden: int, sequence: int, vocabulary: int) -> BlockProfile:
    act = 2 * sequence * hidden
    return BlockProfile(
        name="embedding",
        kind="embedding",
        parameters=(vocabulary + sequence) * hidden,
        traffic_bytes=3 * act,
        activation_bytes=act,
        output_bytes=act,
        operations=3,
        tensor=TensorSplit(limit=vocabulary, activations=0.0, reduce_bytes=act, reductions=1),
        context=ContextSplit(key_bytes=0),
    )


def _head(hidden: int, sequence: int, vocabulary: int) -> BlockProfile:
    act, logits = 2 * sequence * hidden, 4 * sequence * vocabulary
    return BlockProfile(
        name="head",
        kind="head",
        # The embedding's own matrix again: tied, so counted there.
        parameters=2 * hidden,
        products=(MatrixProduct(rows=sequence, columns=vocabulary, inner=hidden, split="columns"),),
        traffic_bytes=1.2 * logits,
        shared_traffic_bytes=2 * act,
        activation_bytes=2 * act + logits,
        output_bytes=8,
        operations=8,
        tensor=TensorSplit(
            limit=vocabulary, activations=logits / (2 * act + logits), reduce_bytes=8 * sequence, reductions=2
        ),
        context=ContextSplit(key_bytes=0),
    )
