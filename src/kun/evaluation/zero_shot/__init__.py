"""Classes that nobody trained: a text, labels in words, and a model that tells which label fits best."""
