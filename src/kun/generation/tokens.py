"""Single tokens as bytes: what log-probabilities are reported for."""

import re

from tokenizers import Tokenizer

from kun.text.tokenizer import Detokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token stands for; a replacement character's bytes where the tokenizer does not tell."""
    text = tokenizer.id_to_token(token)
    if text is None:
        return b""
    if byte := _BYTE.fullmatch(text):
        return bytes([int(byte[1], 16)])
    way = Detokenizer(tokenizer, skip_special=False)
    return (way.push((token,)) + way.finish()).encode()
