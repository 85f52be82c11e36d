"""BERT and its next of kin: `bert.py` is the network, `heads.py` its heads; RoBERTa and ERNIE differ a little."""
