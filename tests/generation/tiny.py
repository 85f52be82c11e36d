"""Tiny random decoders with a byte-level tokenizer: 256 bytes and a few special tokens."""

from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from kun.families import family_of
from kun.models.language_model import LanguageModel
from kun.networks.network import load_state
from kun.text.chat import ChatTemplate

END = 256
CHAT = (
    "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> Tokenizer:
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    return made


def reference(kind: str = "llama", positions: int = 256) -> Any:
    torch.manual_seed(11)
    sizes = {"vocab_size": 260, "bos_token_id": END, "eos_token_id": END}
    config: Any
    if kind == "gpt2":
        config = transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=positions, initializer_range=0.3, **sizes
        )
    elif kind == "t5":
        config = transformers.T5Config(
            d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=259,
            pad_token_id=259, initializer_factor=3.0, **sizes,
        )  # fmt: skip
    elif kind == "marian":
        config = transformers.MarianConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
            encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=positions,
            activation_function="relu", decoder_start_token_id=259, pad_token_id=259, init_std=0.3,
            forced_eos_token_id=None, **sizes,
        )  # fmt: skip
    else:
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=positions, initializer_range=0.3, **sizes,
        )  # fmt: skip
    auto = (
        transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    )
    return auto.from_config(config, attn_implementation="eager" if kind == "t5" else "sdpa").eval()


def language_model(kind: str = "llama", positions: int = 256, **changes: Any) -> LanguageModel:
    theirs = reference(kind, positions)
    hf = theirs.config.to_dict()
    family = family_of(hf)
    with torch.device("meta"):
        net = family.network(family.config.from_hf(hf))
    load_state(net, net.names.ours({k: v.clone() for k, v in theirs.state_dict().items()}))
    given = {"generation_config": {"eos_token_id": END, "bos_token_id": END}, "template": ChatTemplate(CHAT)}
    return LanguageModel(net.eval(), tokenizer(), net.config, **(given | changes))
