"""Instructions, inputs and outputs that a model writes from a few seed tasks (Wang et al., arXiv:2212.10560)."""
