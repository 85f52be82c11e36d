"""Evaluation of models: a task is a small TOML file next to its data, a result states its standard error."""
