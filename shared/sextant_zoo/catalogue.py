"""The entries of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sextant_zoo import settings
from sextant_zoo.architecture import Architecture, Space, Way

RATE = {"low": 5e-4, "high": 1e-2, "log": True}
LOW_RATE = {"low": 1e-4, "high": 3e-3, "log": True}
FINE_RATE = {"low": 1e-5, "high": 1e-3, "log": True}
LAYERS: Space = {"learning_rate": LOW_RATE, "model.layers": {"type": "int", "low": 2, "high": 8}}
RESIDUAL: Space = {"learning_rate": RATE, "model.width": {"type": "int", "low": 16, "high": 64, "log": True}}
DROPOUT: Space = {"learning_rate": LOW_RATE, "model.dropout": {"low": 0.0, "high": 0.5}}
CHAIN: tuple[Way, ...] = ("data", "pipeline", "tensor")
SEQUENCE: tuple[Way, ...] = ("data", "pipeline", "tensor", "sequence")
IMAGE, TEXT, TOKENS = ("image-classification",), ("text-classification",), ("language-modelling",)
SERIES = ("forecasting", "anomaly-detection")


def _residual(layers: int, block: str, depths: list[int]) -> Architecture:
    return Architecture(
        f"resnet{layers}",
        f"Residual network of {layers} layers",
        IMAGE,
        settings.ResnetConfig,
        "sextant_zoo.resnet",
        RESIDUAL,
        {"block": block, "depths": depths},
        splits=CHAIN,
    )


def _mobile(name: str, summary: str, function: str, **defaults: Any) -> Architecture:
    module = "sextant_zoo.inverted_residuals"
    return Architecture(
        name, summary, IMAGE, settings.MobileConfig, module, DROPOUT, defaults, splits=CHAIN[:2], function=function
    )


def _stages(name: str, summary: str, **defaults: Any) -> Architecture:
    space: Space = {"learning_rate": LOW_RATE}
    return _borrowed(name, summary, IMAGE, settings.StagesConfig, "images", space, defaults)


def _patches(name: str, summary: str, **defaults: Any) -> Architecture:
    return _borrowed(name, summary, IMAGE, settings.PatchesConfig, "images", LAYERS, defaults)


def _text(name: str, summary: str, **defaults: Any) -> Architecture:
    space: Space = {"learning_rate": FINE_RATE, "model.dropout": {"low": 0.0, "high": 0.3}}
    return _borrowed(name, summary, TEXT, settings.LanguageConfig, "texts", space, defaults)


def _causal(name: str, summary: str, **defaults: Any) -> Architecture:
    space: Space = {"learning_rate": LOW_RATE, "model.layers": {"type": "int", "low": 2, "high": 12}}
    return _borrowed(name, summary, TOKENS, settings.LanguageConfig, "texts", space, defaults, exports=())


def _borrowed(
    name: str,
    summary: str,
    tasks: tuple[str, ...],
    config: type[settings.Config],
    module: str,
    space: Space,
    defaults: Mapping[str, Any],
    exports: tuple[str, ...] = ("onnx",),
) -> Architecture:
    """One that `transformers` has."""
    function = "build_" + name.replace("-", "_")
    return Architecture(
        name,
        summary,
        tasks,
        config,
        f"sextant_zoo.borrowed.{module}",
        space,
        defaults,
        function=function,
        origin="transformers",
        exports=exports,
    )


IMAGES = (
    Architecture(
        "small-cnn",
        "Convolution blocks with batch normalisation, for images from 8x8 to 64x64",
        IMAGE,
        settings.SmallCnnConfig,
        "sextant_zoo.small_cnn",
        {
            "learning_rate": RATE,
            "model.channels": {"type": "int", "low": 16, "high": 64, "log": True},
            "model.dropout": {"low": 0.0, "high": 0.5},
        },
    ),
    _residual(18, "basic", [2, 2, 2, 2]),
    _residual(34, "basic", [3, 4, 6, 3]),
    _residual(50, "bottleneck", [3, 4, 6, 3]),
    _residual(101, "bottleneck", [3, 4, 23, 3]),
    _residual(152, "bottleneck", [3, 8, 36, 3]),
    _mobile("mobilenet-v2", "Inverted residuals for small devices", "build_mobilenet_v2"),
    _mobile("mobilenet-v3-small", "Inverted residuals found by search, small", "build_mobilenet_v3_small"),
    _mobile("mobilenet-v3-large", "Inverted residuals found by search, large", "build_mobilenet_v3_large"),
    _mobile("efficientnet-b0", "Inverted residuals scaled in width, depth and size", "build_efficientnet"),
    _mobile("efficientnet-b3", "EfficientNet of 12 M parameters", "build_efficientnet", width=1.2, depth=1.4),
    _mobile("efficientnet-lite0", "EfficientNet without squeezes, for eight bits", "build_efficientnet_lite"),
    _stages("regnet-y-8gf", "Residual network whose widths follow a rule", widths=[224, 448, 896, 2016],
            depths=[2, 4, 10, 1], group=56),
    _stages("convnext-tiny", "Convolutional network after the manner of transformers"),
    _stages("swin-tiny", "Transformer over shifted windows", depths=[2, 2, 6, 2], heads=[3, 6, 12, 24]),
    Architecture(
        "vit", "Vision transformer", IMAGE, settings.VitConfig, "sextant_zoo.vit", LAYERS, splits=SEQUENCE[:3]
    ),
    _patches("deit-small", "Vision transformer with a class and a distillation token", patch=16),
    _patches("dinov2-small", "Vision transformer with scaled layers, as DINOv2 trains it"),
    Architecture(
        "detector",
        "Boxes without anchors, on a residual, MobileNet or EfficientNet backbone",
        ("defect-detection",),
        settings.DetectorConfig,
        "sextant_zoo.detector",
        {"learning_rate": LOW_RATE, "model.channels": {"type": "int", "low": 32, "high": 128, "log": True}},
    ),
    Architecture(
        "unet",
        "U-Net with skips, for segmentation",
        ("image-segmentation",),
        settings.UnetConfig,
        "sextant_zoo.unet",
        {"learning_rate": LOW_RATE, "model.depth": {"type": "int", "low": 2, "high": 4}},
        splits=CHAIN[:2],
        exports=(),
    ),
)  # fmt: skip
TEXTS = (
    Architecture(
        "encoder",
        "BERT-like encoder that normalises before its layers",
        TEXT,
        settings.EncoderConfig,
        "sextant_zoo.encoder",
        LAYERS,
        splits=SEQUENCE,
    ),
    _text("bert", "Encoder that was trained to fill gaps"),
    _text("minilm", "BERT of 6 narrow layers, distilled for sentences", hidden=384, layers=6, inner=1536),
    _text("roberta", "BERT with byte-level tokens", vocabulary=50265, padding=1),
    _text("distilbert", "BERT of 6 layers, distilled", layers=6),
    _text("albert", "BERT whose layers share their weights", vocabulary=30000, embedding=128, dropout=0.0),
    _text("electra", "BERT that was trained to tell replaced tokens", hidden=256, heads=4, inner=1024, embedding=128),
    _text("modernbert", "Encoder with rotary positions and local attention", vocabulary=50368, layers=22, inner=1152,
          sequence=8192, padding=0, dropout=0.0),
    _text("t5-encoder", "The encoder of T5, with relative positions", vocabulary=32128, hidden=512, layers=6, heads=8,
          inner=2048),
    Architecture(
        "decoder",
        "Causal language model, Llama-like or GPT-like",
        TOKENS,
        settings.DecoderConfig,
        "sextant_zoo.decoder",
        LAYERS,
        splits=SEQUENCE,
        exports=(),
    ),
    _causal("gpt2", "Causal language model with learned positions", vocabulary=50257, sequence=1024),
    _causal("llama", "Causal language model with rotary positions", vocabulary=32000, hidden=2048, layers=22, heads=32,
            key_heads=4, inner=5632, sequence=2048, dropout=0.0),
    _causal("qwen3", "Causal language model with normalised queries", vocabulary=151936, hidden=1024, layers=28,
            heads=16, key_heads=8, inner=3072, sequence=32768, dropout=0.0),
)  # fmt: skip
OTHERS = (
    Architecture(
        "dlinear",
        "A linear layer each for trend and rest",
        SERIES,
        settings.DlinearConfig,
        "sextant_zoo.dlinear",
        {"learning_rate": RATE, "model.kernel": {"type": "int", "low": 5, "high": 97}},
    ),
    Architecture(
        "patchtst",
        "Transformer over overlapping patches, each column on its own",
        SERIES,
        settings.PatchtstConfig,
        "sextant_zoo.patchtst",
        {"learning_rate": LOW_RATE, "model.dropout": {"low": 0.0, "high": 0.5}},
    ),
    Architecture(
        "autoformer",
        "Encoder and decoder that find periods by autocorrelation",
        SERIES,
        settings.AutoformerConfig,
        "sextant_zoo.autoformer",
        DROPOUT,
        exports=(),
    ),
    Architecture("lstm", "Recurrent network", SERIES, settings.LstmConfig, "sextant_zoo.lstm", DROPOUT),
    Architecture(
        "time-series",
        "Transformer over patches in blocks that can be split over devices",
        SERIES,
        settings.TimeSeriesConfig,
        "sextant_zoo.time_series",
        LAYERS,
        splits=SEQUENCE[:3],
    ),
    Architecture(
        "mlp",
        "Fully connected layers",
        ("tabular", "image-classification"),
        settings.MlpConfig,
        "sextant_zoo.mlp",
        {
            "learning_rate": RATE,
            "model.hidden": {"type": "int", "low": 32, "high": 512, "log": True},
            "model.dropout": {"low": 0.0, "high": 0.5},
        },
    ),
    Architecture(
        "ft-transformer",
        "Transformer over the columns of a table",
        ("tabular",),
        settings.FtTransformerConfig,
        "sextant_zoo.ft_transformer",
        LAYERS,
        splits=SEQUENCE[:3],
    ),
)
ARCHITECTURES = {entry.name: entry for entry in (*IMAGES, *TEXTS, *OTHERS)}
