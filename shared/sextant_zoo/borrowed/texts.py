"""Language models of `transformers`: encoders with a classifier on the mean of their outputs, and causal models.

Inputs are token numbers (batch, sequence); the token `padding` fills up the short ones, and is looked at by none.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.borrowed.library import model
from sextant_zoo.cosine import CosineLinear
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import LanguageConfig

Shape = tuple[int, ...]
NO_POOLING = {"add_pooling_layer": False}


class TextClassifier(nn.Module):
    """An encoder, the mean of its outputs over the tokens of a text, and logits."""

    def __init__(self, encoder: nn.Module, config: LanguageConfig, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.padding, self.dropout = config.padding, config.dropout
        self.output = (
            nn.Linear(config.hidden, classes) if config.head == "linear" else CosineLinear(config.hidden, classes)
        )
        nn.init.normal_(self.output.weight, std=0.02)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, sequence) int64 -> (batch, classes)."""
        mask = (tokens != self.padding).long()
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        kept = mask[:, :, None].to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1.0)
        logits: Tensor = self.output(functional.dropout(mean, self.dropout, self.training))
        return logits


class CausalModel(nn.Module):
    """A causal model of `transformers` that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, sequence) int64 -> (batch, sequence, vocabulary)."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits


def build_bert(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """BERT (Devlin et al., 2018). Raises UnknownModelError for too long inputs."""
    encoder = model("BertModel", "BertConfig", options=NO_POOLING, **_bert(config, input_shape))
    return TextClassifier(encoder, config, classes)


build_minilm = build_bert
"""MiniLM (Wang et al., 2020)."""


def build_roberta(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """RoBERTa (Liu et al., 2019), whose positions begin after that of the padding."""
    settings = _bert(config, input_shape)
    settings["max_position_embeddings"] += config.padding + 1
    # What it was published with; the library's own default is that of BERT.
    settings |= {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
    encoder = model("RobertaModel", "RobertaConfig", options=NO_POOLING, **settings)
    return TextClassifier(encoder, config, classes)


def build_distilbert(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """DistilBERT (Sanh et al., 2019)."""
    _check(config, input_shape)
    made = model(
        "DistilBertModel",
        "DistilBertConfig",
        vocab_size=config.vocabulary,
        dim=config.hidden,
        n_layers=config.layers,
        n_heads=config.heads,
        hidden_dim=config.inner,
        max_position_embeddings=config.sequence,
        pad_token_id=config.padding,
        dropout=config.dropout,
        attention_dropout=_of_attention(config),
    )
    return TextClassifier(made, config, classes)


def build_albert(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """ALBERT (Lan et al., 2019)."""
    settings = {**_bert(config, input_shape), "embedding_size": config.embedding or config.hidden}
    return TextClassifier(model("AlbertModel", "AlbertConfig", options=NO_POOLING, **settings), config, classes)


def build_electra(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """ELECTRA (Clark et al., 2020)."""
    settings = {**_bert(config, input_shape), "embedding_size": config.embedding or config.hidden}
    return TextClassifier(model("ElectraModel", "ElectraConfig", **settings), config, classes)


def build_modernbert(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """ModernBERT (Warner et al., 2024)."""
    settings = _common(config, input_shape)
    settings |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    settings |= dict.fromkeys(("embedding_dropout", "mlp_dropout"), config.dropout)
    settings["attention_dropout"] = _of_attention(config)
    return TextClassifier(model("ModernBertModel", "ModernBertConfig", **settings), config, classes)


def build_t5_encoder(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """The encoder of T5 (Raffel et al., 2019), in its gated form. Raises UnknownModelError for attention_dropout."""
    _check(config, input_shape)
    if config.attention_dropout not in (None, config.dropout):
        message = f"t5-encoder has one dropout for all ({config.dropout}), given {config.attention_dropout}"
        raise UnknownModelError(message, "model.config.attention_dropout")
    made = model(
        "T5EncoderModel",
        "T5Config",
        vocab_size=config.vocabulary,
        d_model=config.hidden,
        d_kv=config.hidden // config.heads,
        d_ff=config.inner,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=config.dropout,
        feed_forward_proj="gated-gelu",
        pad_token_id=config.padding,
    )
    return TextClassifier(made, config, classes)


def build_gpt2(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """GPT-2 (Radford et al., 2019)."""
    _check(config, input_shape, classes)
    made = model(
        "GPT2LMHeadModel",
        "GPT2Config",
        attention="sdpa",
        vocab_size=config.vocabulary,
        n_embd=config.hidden,
        n_layer=config.layers,
        n_head=config.heads,
        n_inner=config.inner,
        n_positions=config.sequence,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=_of_attention(config),
        bos_token_id=None,
        eos_token_id=None,
    )
    return CausalModel(made)


def build_llama(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """Llama (Touvron et al., 2023); by default of the size of TinyLlama."""
    return CausalModel(model("LlamaForCausalLM", "LlamaConfig", **_causal(config, input_shape, classes)))


def build_qwen3(config: LanguageConfig, input_shape: Shape, classes: int) -> nn.Module:
    """Qwen3 (Yang et al., 2025); by default of the size of its smallest."""
    settings = {**_causal(config, input_shape, classes), "head_dim": max(2, config.hidden // config.heads)}
    return CausalModel(model("Qwen3ForCausalLM", "Qwen3Config", **settings, tie_word_embeddings=True))


def _causal(config: LanguageConfig, input_shape: Shape, classes: int) -> dict[str, Any]:
    _check(config, input_shape, classes)
    return {
        **_common(config, input_shape),
        **dict.fromkeys(("bos_token_id", "eos_token_id")),
        "num_key_value_heads": config.key_heads or config.heads,
        "attention_dropout": _of_attention(config),
        "attention": "sdpa",
    }


def _bert(config: LanguageConfig, input_shape: Shape) -> dict[str, Any]:
    dropout = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": _of_attention(config)}
    return {**_common(config, input_shape), **dropout}


def _of_attention(config: LanguageConfig) -> float:
    return config.dropout if config.attention_dropout is None else config.attention_dropout


def _common(config: LanguageConfig, input_shape: Shape) -> dict[str, Any]:
    _check(config, input_shape)
    return {
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.inner,
        "max_position_embeddings": config.sequence,
        "pad_token_id": config.padding,
    }


def _check(config: LanguageConfig, input_shape: Shape, tokens: int | None = None) -> None:
    if len(input_shape) != 1 or input_shape[0] > config.sequence:
        message = f"inputs must be sequences of at most {config.sequence} tokens, got the shape {input_shape}"
        raise UnknownModelError(message, "model.config.sequence")
    if tokens is not None and tokens != config.vocabulary:
        message = f"vocabulary is {config.vocabulary}, and the data have {tokens} tokens"
        raise UnknownModelError(message, "model.config.vocabulary")
    if tokens is not None and config.head != "linear":
        raise UnknownModelError("a model that goes on with texts has a linear head", "model.config.head")
