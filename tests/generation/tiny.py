"""Tiny random decoders with a byte-level tokenizer: 256 bytes and a few special tokens."""

from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from kun.families import family_of, load_state
from kun.generation.model import LanguageModel
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
    else:
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=positions, initializer_range=0.3, **sizes,
        )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def language_model(kind: str = "llama", positions: int = 256, **changes: Any) -> LanguageModel:
    theirs = reference(kind, positions)
    hf = theirs.config.to_dict()
    family = family_of(hf)
    with torch.device("meta"):
        net = family.network_type(family.config_type.from_hf(hf))
    load_state(net, family.network_type.from_hf_names({k: v.clone() for k, v in theirs.state_dict().items()}))
    given = {"generation_config": {"eos_token_id": END, "bos_token_id": END}, "template": ChatTemplate(CHAT)}
    return LanguageModel(net.eval(), tokenizer(), net.config, **(given | changes))
