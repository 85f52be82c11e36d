"""A network spread over several processes, from outside: its code stays that of one device."""
