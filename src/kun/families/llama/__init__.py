"""LLaMA: Touvron et al., arXiv:2302.13971; LLaMA 2: arXiv:2307.09288; Llama 3: arXiv:2407.21783. Alpaca, Vicuna
and SmolLM2 are checkpoints of it.

What differs from GPT: the norm is RMS and has no bias, positions rotate queries and keys (RoPE) in place of
a learned table, the feed-forward is gated (SwiGLU, Shazeer, arXiv:2002.05202), and from LLaMA 2 on
several queries may share a key and value (arXiv:2305.13245).

Its close relatives are configs of it:

- Mistral (Jiang et al., arXiv:2310.06825) lets every layer see only the last tokens, a window that slides.
- Qwen2 (arXiv:2407.10671) adds biases on query, key and value, and lets some layers see only a window.
- Qwen3 (arXiv:2505.09388) leaves the biases out again, and norms each head's query and key before they are rotated.
- ERNIE 4.5's dense model (Baidu, 2025) rotates neighbours (2i, 2i + 1), where LLaMA's files have halves
  (i, i + d/2). A dot product does not care about order, so its query and key weights are reordered instead.
"""
