"""What is ready to use: a network with its tokenizer, opened from a checkpoint, for many callers at once."""
