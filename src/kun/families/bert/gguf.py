"""GGUF files of BERT-type encoders: the encoder alone, with BERT's architecture whatever the family."""

from dataclasses import replace

from kun.networks.gguf_layout import GgufLayout, Rows, Size

BERT = GgufLayout(
    "bert",
    "BertModel",
    {
        "hidden_size": Size("embedding_length"),
        "num_hidden_layers": Size("block_count"),
        "num_attention_heads": Size("attention.head_count"),
        "intermediate_size": Size("feed_forward_length"),
        "max_position_embeddings": Size("context_length"),
        "type_vocab_size": Rows("token_types.weight", 2),
        "layer_norm_eps": Size("attention.layer_norm_epsilon", real=True),
        "hidden_act": "gelu",
        "tie_word_embeddings": True,
    },
    left_out=("pooler.",),  # a next-sentence judgement: neither vectors nor text come from it
    activations=("gelu",),
    activation="GELU",
)
ROBERTA = replace(BERT, orders={"position_embd": "from_first"})
"""llama.cpp counts the positions of a text from zero."""
