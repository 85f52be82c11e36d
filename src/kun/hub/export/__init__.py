"""Checkpoints written for other programs, and the proof that nothing was lost on the way."""
