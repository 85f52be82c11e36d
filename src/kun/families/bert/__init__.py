"""BERT and its next of kin: `bert.py` is the network, `heads.py` what stands on it, `roberta.py` and `ernie.py`
what each of those does otherwise."""

from kun.families.bert.bert import FAMILY, PRESETS, Bert
from kun.families.bert.config import BertConfig

__all__ = ["FAMILY", "PRESETS", "Bert", "BertConfig"]
