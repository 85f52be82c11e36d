"""The parts of the families: positions, norms, attention, the paged cache. Pure tensors, no files."""
