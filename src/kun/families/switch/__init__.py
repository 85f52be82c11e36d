"""Encoders and decoders in which some feed-forward networks are mixtures of experts.

`switch.py` sends each token to one expert (Switch Transformers), `gshard.py` to two (GShard).
"""
