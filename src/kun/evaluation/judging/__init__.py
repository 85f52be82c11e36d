"""Models judged by their answers to open questions (Zheng et al., arXiv:2306.05685)."""
