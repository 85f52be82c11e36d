"""GGUF files: reading them, their tokenizers, their blocks of packed weights."""
