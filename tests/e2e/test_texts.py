"""Texts from a table to a live endpoint that takes texts."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sextant.stack.home import Home
from tests.e2e.conftest import Stack

VERBS = {"send": ("send", "ship", "post"), "cancel": ("cancel", "stop", "drop"), "count": ("count", "tally", "number")}
BERT = {
    "architecture": "transformer",
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 200,
    "sequence": 32,
    "dropout": 0.0,
    "attention_dropout": 0.1,
}


def table(path: Path) -> Path:
    """Questions of three kinds that a word tells apart."""
    things = ("order", "parcel", "letter", "box")
    rows = [
        f"please {word} my {thing} number {number},{kind}"
        for kind, words in VERBS.items()
        for word in words
        for thing in things
        for number in range(8)
    ]
    # Nothing of these is learnt: they tell what to reject.
    rows += [f"why is the {what} {how} {n},other" for what in ("sky", "sea") for how in ("so", "not") for n in range(8)]
    path.write_text("question,kind\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.timeout(300)
def test_texts_are_told_apart_by_a_live_endpoint(stack: Stack, tmp_path: Path) -> None:
    upload = stack.client.push(table(tmp_path / "questions.csv"))
    job = stack.client.submit(
        {
            "name": "questions",
            "steps": {
                "data": {
                    "kind": "prepare",
                    "source": upload.uri,
                    "task": "text-classification",
                    "text": "question",
                    "target": "kind",
                },
                "model": {
                    "kind": "train",
                    "data": {"step": "data"},
                    "model": BERT,
                    "config": {
                        "epochs": 8,
                        "batch_size": 16,
                        "learning_rate": 3e-3,
                        "schedule": "one-cycle",
                        "out_of_scope": "other",
                        "precision": "mixed",
                        "ema": 0.9,
                    },
                    "resources": {"ranks": 2},
                },
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "questions"},
                "check": {
                    "kind": "evaluate",
                    "endpoint": {"step": "live"},
                    "data": {"step": "data"},
                    "require": {"in_scope_accuracy_unrejected": ">= 0.95"},
                },
            },
        }
    )
    ended = stack.client.wait(job, timeout=280, check=False)
    assert ended.state == "SUCCEEDED", ended.error
    answer = stack.client.predict("questions", ["Please TALLY my boxes!", "ship my letter"]).outputs[0]
    assert answer.shape == [2, 4]
    logits = [answer.data[:4], answer.data[4:]]
    headers = {"Authorization": f"Bearer {Home(stack.home).credentials().admin_key}"}
    served = httpx.get(f"{stack.url}/v2/models/questions", headers=headers).json()["parameters"]
    classes = served["classes"]
    assert classes == ["cancel", "count", "out_of_scope", "send"]
    assert [classes[row.index(max(row))] for row in logits] == ["count", "send"]
