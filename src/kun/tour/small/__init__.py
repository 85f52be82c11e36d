"""A small world of sentences, and small networks that learn it within seconds."""
