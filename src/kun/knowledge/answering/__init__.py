"""Answers from documents: understanding, showing, writing, checking, citing."""
