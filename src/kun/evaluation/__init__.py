"""How good a model is, in numbers: a task is a small TOML file beside its data, a result says how sure it is."""
