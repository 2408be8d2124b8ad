"""Simple classifiers of small images, to be compared with: neighbours, gradients by direction, and random patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Classifier = Callable[[Images, Labels, Images], Labels]
"""Takes images (rows, channels, height, width) and labels to learn from, and images; the labels of these."""
PATCHES, SIDE = 800, 6


def _neighbours(train: Images, labels: Labels, test: Images) -> Labels:
    from sklearn.neighbors import KNeighborsClassifier

    flat = [part.reshape(len(part), -1).astype(np.float32) for part in (train, test)]
    found: Labels = KNeighborsClassifier(10, weights="distance").fit(flat[0], labels).predict(flat[1])
    return found


def _gradients(train: Images, labels: Labels, test: Images) -> Labels:
    """Histograms of oriented gradients (Dalal and Triggs, 2005) in cells of 4 pixels, and a support vector machine."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale"))
    found: Labels = model.fit(_oriented(train), labels).predict(_oriented(test))
    return found


def _oriented(images: Images, cell: int = 4, directions: int = 9) -> NDArray[np.float32]:
    grey = images.mean(1)
    down, right = np.gradient(grey, axis=(1, 2))
    size, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    place = np.minimum((angle * (directions / np.pi)).astype(int), directions - 1)
    cells = [np.where(place == d, size, 0.0) for d in range(directions)]
    pooled = functional.avg_pool2d(torch.from_numpy(np.stack(cells, 1)), cell).numpy()
    length = np.sqrt(np.square(pooled).sum(1, keepdims=True)) + 1.0
    found: NDArray[np.float32] = (pooled / length).reshape(len(images), -1).astype(np.float32)
    return found


def _patches(train: Images, labels: Labels, test: Images) -> Labels:
    """Whitened random patches as filters, pooled in quarters, and a linear model (Coates, Lee and Ng, 2011)."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    cut = np.lib.stride_tricks.sliding_window_view(train, (SIDE, SIDE), axis=(2, 3))
    at = tuple(rng.integers(0, n, 50_000) for n in (cut.shape[0], cut.shape[2], cut.shape[3]))
    drawn = _level(torch.from_numpy(cut[at[0], :, at[1], at[2]].reshape(50_000, -1).astype(np.float32)))
    mean = drawn.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((drawn - mean).T))
    white = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
    filters = functional.normalize(((drawn - mean) @ white)[:PATCHES])
    scale = StandardScaler()
    seen = scale.fit_transform(_pooled(train, mean, white, filters))
    model = RidgeClassifierCV(alphas=[100.0, 1000.0, 10_000.0]).fit(seen, labels)
    found: Labels = model.predict(scale.transform(_pooled(test, mean, white, filters)))
    return found


def _level(patches: torch.Tensor) -> torch.Tensor:
    """Each of the same brightness and contrast."""
    even = patches - patches.mean(-1, keepdim=True)
    return even / torch.sqrt(even.var(-1, keepdim=True) + 10.0)


def _pooled(images: Images, mean: torch.Tensor, white: torch.Tensor, filters: torch.Tensor) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64].astype(np.float32))
        side = batch.shape[-1] - SIDE + 1
        cut = _level(functional.unfold(batch, SIDE).transpose(1, 2))
        seen = ((cut - mean) @ white) @ filters.T
        both = torch.cat([(seen - 0.25).relu(), (-seen - 0.25).relu()], -1).transpose(1, 2)
        parts.append(functional.adaptive_avg_pool2d(both.reshape(*both.shape[:2], side, side), 2).flatten(1).numpy())
    return np.concatenate(parts)


CLASSIFIERS: Mapping[str, Classifier] = {"neighbours": _neighbours, "gradients": _gradients, "patches": _patches}


def accuracy(name: str, train: tuple[Images, Labels], test: tuple[Images, Labels]) -> float:
    """Of one of them."""
    called: Any = CLASSIFIERS[name](train[0], train[1], test[0]) == test[1]
    return float(called.mean())
