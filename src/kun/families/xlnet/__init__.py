"""XLNet: `xlnet.py` is the network, `attention.py` its attention by distance, `completion.py` how it writes."""
