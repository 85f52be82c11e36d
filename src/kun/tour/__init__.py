"""The article's ideas, each shown running; and a GPT's whole life in some minutes."""
