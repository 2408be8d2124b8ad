"""A tiny one of each architecture: its settings, the shape of an input, the classes, and the shape of the output."""

from __future__ import annotations

from typing import Any

Tiny = dict[str, tuple[dict[str, Any], tuple[int, ...], int, tuple[int, ...]]]

_PIXELS = (3, 16, 16)
_MOBILE = {"width": 0.25, "stages": 2, "stem": "small"}
_STAGES = {"widths": [8, 16], "depths": [1, 1], "patch": 2}
_PATCHES = {"hidden": 16, "layers": 2, "heads": 2, "inner": 32, "patch": 4}
_LAYERS = {"hidden": 32, "layers": 2, "heads": 4}
_LANGUAGE = {"vocabulary": 64, "hidden": 16, "layers": 2, "heads": 2, "inner": 32, "sequence": 32, "dropout": 0.0}

IMAGES: Tiny = {
    "small-cnn": ({"channels": 4}, (1, 8, 8), 10, (10,)),
    "resnet18": ({"width": 4, "depths": [1, 1]}, _PIXELS, 5, (5,)),
    "resnet34": ({"width": 4, "depths": [2, 1]}, _PIXELS, 5, (5,)),
    "resnet50": ({"width": 4, "depths": [1, 1]}, _PIXELS, 5, (5,)),
    "resnet101": ({"width": 4, "depths": [1, 2]}, _PIXELS, 5, (5,)),
    "resnet152": ({"width": 4, "depths": [2, 1]}, (3, 64, 64), 5, (5,)),
    "mobilenet-v2": (_MOBILE, _PIXELS, 5, (5,)),
    "mobilenet-v3-small": (_MOBILE, _PIXELS, 5, (5,)),
    "mobilenet-v3-large": (_MOBILE, _PIXELS, 5, (5,)),
    "efficientnet-b0": (_MOBILE, _PIXELS, 5, (5,)),
    "efficientnet-lite0": (_MOBILE, _PIXELS, 5, (5,)),
    "efficientnet-b3": (_MOBILE, _PIXELS, 5, (5,)),
    "regnet-y-8gf": ({"widths": [8, 16], "depths": [1, 1], "group": 8}, _PIXELS, 5, (5,)),
    "convnext-tiny": (_STAGES, _PIXELS, 5, (5,)),
    "swin-tiny": ({**_STAGES, "heads": [2, 2], "window": 4}, _PIXELS, 5, (5,)),
    "vit": (_LAYERS, _PIXELS, 5, (5,)),
    "deit-small": (_PATCHES, _PIXELS, 5, (5,)),
    "dinov2-small": (_PATCHES, _PIXELS, 5, (5,)),
    "detector": ({"backbone": "resnet18", "width": 0.0625, "channels": 8, "depth": 1}, (2, 64, 64), 3, (7, 8, 8)),
    "unet": ({"channels": 8, "depth": 2, "groups": 4}, _PIXELS, 5, (5, 16, 16)),
}
TEXTS: Tiny = {
    "encoder": ({**_LAYERS, "vocabulary": 64}, (16,), 5, (5,)),
    **dict.fromkeys(("bert", "minilm", "roberta", "distilbert", "modernbert"), (_LANGUAGE, (12,), 5, (5,))),
    **{name: ({**_LANGUAGE, "embedding": 8}, (12,), 5, (5,)) for name in ("albert", "electra")},
    "t5-encoder": (_LANGUAGE, (12,), 5, (5,)),
    "decoder": ({**_LAYERS, "key_heads": 2, "vocabulary": 64}, (16,), 64, (16, 64)),
    "gpt2": (_LANGUAGE, (12,), 64, (12, 64)),
    "llama": ({**_LANGUAGE, "key_heads": 1}, (12,), 64, (12, 64)),
    "qwen3": ({**_LANGUAGE, "key_heads": 1}, (12,), 64, (12, 64)),
}
OTHERS: Tiny = {
    "dlinear": ({"kernel": 5}, (18, 2), 3, (3, 2)),
    "patchtst": ({**_LAYERS, "patch": 4, "stride": 2}, (18, 2), 3, (3, 2)),
    "autoformer": ({**_LAYERS, "kernel": 5, "inner": 32}, (18, 2), 3, (3, 2)),
    "lstm": ({"hidden": 8}, (18, 2), 3, (3, 2)),
    "time-series": ({**_LAYERS, "patch": 4}, (18, 2), 3, (3, 2)),
    "mlp": ({"hidden": 8}, (6,), 3, (3,)),
    "ft-transformer": (_LAYERS, (6,), 3, (3,)),
}
