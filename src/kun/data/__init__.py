"""From files to batches: sources, formats, rows, a store of their tokens on disk, and rows packed for training."""
