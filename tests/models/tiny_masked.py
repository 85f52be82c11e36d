"""Tiny checkpoints of BERT, RoBERTa and ERNIE with random weights, written by the reference."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXTS = [
    "Paris is the capital of France.",
    "The quick brown fox jumps over the lazy dog.",
    "今天天气很好，我们去公园散步吧。",
] * 3
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,
}


def wordpiece() -> Tokenizer:
    """As BERT's: [CLS] … [SEP], and [MASK]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    """As RoBERTa's: <s> … </s>, and a <mask> that takes the space before it."""
    special: list[Any] = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def write(folder: Path, class_name: str, **changes: Any) -> Path:
    """The checkpoint of the reference's `class_name` in `folder`."""
    roberta = "Roberta" in class_name
    tokenizer = byte_level() if roberta else wordpiece()
    kind = getattr(transformers, class_name)
    torch.manual_seed(4)
    config = kind.config_class(vocab_size=tokenizer.get_vocab_size(), **SIZES, **changes)
    kind(config).save_pretrained(folder)
    mask, pad = ("<mask>", "<pad>") if roberta else ("[MASK]", "[PAD]")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token=mask, pad_token=pad
    ).save_pretrained(folder)
    return folder
