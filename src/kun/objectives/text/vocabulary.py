"""Special tokens that an objective needs, and that a tokenizer may lack."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from kun.text.chat import ChatTemplate

START, DELIMITER, EXTRACT, PAD = "<|start|>", "<|delimiter|>", "<|extract|>", "<|pad|>"
"""GPT-1's tokens around texts that are judged, and what fills the rest of a row."""


def sentinel(number: int) -> str:
    """T5's name of the token for a left-out span."""
    return f"<extra_id_{number}>"


def with_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> tuple[Tokenizer, list[int]]:
    """A copy of the tokenizer that has these special tokens, and their ids."""
    copy: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    missing = [token for token in tokens if copy.token_to_id(token) is None]
    copy.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
    return copy, [int(copy.token_to_id(token) or 0) for token in tokens]


def judging_tokenizer(tokenizer: Tokenizer) -> tuple[Tokenizer, int]:
    """A copy that writes texts as a judging decoder reads them, and its id for padding.

    start text extract, or start text delimiter text extract: Radford et al. 2018, section 3.3.
    """
    copy, ids = with_tokens(tokenizer, (START, DELIMITER, EXTRACT, PAD))
    copy.post_processor = TemplateProcessing(
        single=f"{START} $A {EXTRACT}",
        pair=f"{START} $A {DELIMITER} $B {EXTRACT}",
        special_tokens=list(zip((START, DELIMITER, EXTRACT), ids[:3], strict=True)),
    )
    return copy, ids[3]


def padding_apart(tokenizer: Tokenizer, template: ChatTemplate) -> tuple[Tokenizer, int]:
    """A tokenizer whose padding no conversation ends in, and its id: who looks for the last token finds the right one.

    It is a special token that the template does not write; one is added where there is none.
    """
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content for token in added.values() if token.special}
    talk = [{"role": role, "content": "a"} for role in ("user", "assistant")]
    written = template.render(talk, add_generation_prompt=False) + template.source
    usual = [name for name in ("<pad>", PAD, "[PAD]", "<|endoftext|>", *sorted(special)) if name in special]
    free = next((name for name in usual if name not in written), PAD)
    made, (pad,) = with_tokens(tokenizer, [free])
    return made, pad


_PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '\\n\\nAssistant:' }}"
    "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
    "{% elif message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)


def plain_template(end: str) -> ChatTemplate:
    """How a model without a chat template reads conversations: as transcripts, each answer with `end` behind it."""
    return ChatTemplate(_PLAIN, {"eos_token": end})
