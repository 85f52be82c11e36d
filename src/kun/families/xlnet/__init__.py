"""XLNet: `xlnet.py` is the network, `attention.py` its attention by distance, `completion.py` how it writes."""

from kun.families.xlnet.config import PRESETS, XLNetConfig
from kun.families.xlnet.xlnet import FAMILY, XLNet

__all__ = ["FAMILY", "PRESETS", "XLNet", "XLNetConfig"]
