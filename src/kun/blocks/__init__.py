"""Parts that the families are written from: positions, norms, attention, the paged cache. Pure tensors, no files."""
