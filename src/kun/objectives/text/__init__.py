"""What text's training tasks share: the model that learns, its data as batches, samples."""
