"""What families share: networks and their parts' names, the two ways of calling one, decoding state, heads."""
