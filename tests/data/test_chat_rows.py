"""Conversations as ids: what the assistant says is learned, and nothing else, whatever the template."""

from typing import Any

import pytest
from chat_templates import FORGETFUL, NAMED, QWEN, SMOLLM2, TEMPLATES, THINKING, chat_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from kun.data.rows import Conversation
from kun.data.tokenized import RowTokenizer, Tokenized
from kun.errors import BadInput, BadRow
from kun.text.chat import ChatTemplate
from kun.text.learn import CHATML, learn_tokenizer

TOKENIZER = chat_tokenizer()
MERGING = learn_tokenizer(
    ["Hello there, how are you?\n\nassistant\n\n user 你好 " * 50], "bpe", 400, special_tokens=NAMED.values()
).tokenizer


def talk(*contents: str, system: str | None = None) -> tuple[dict[str, str], ...]:
    turns = [
        {"role": role, "content": text}
        for role, text in zip(["user", "assistant"] * 9, contents, strict=False)
    ]
    return tuple([{"role": "system", "content": system}, *turns] if system is not None else turns)


def tokenized(
    messages: tuple[Any, ...],
    source: str,
    tokenizer: Tokenizer = TOKENIZER,
    tools: tuple[Any, ...] | None = None,
    **options: Any,
) -> Tokenized | BadRow | None:
    rows = RowTokenizer(tokenizer, template=ChatTemplate(source, NAMED), **options)
    return rows([Conversation(messages, "talk.jsonl:7", tools)])[0]


def runs(one: Tokenized | BadRow | None, tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    """The stretches of tokens that are learned, as text."""
    assert isinstance(one, Tokenized), one
    assert one.learned is not None
    found: list[list[int]] = []
    before = False
    for index, learned in zip(one.ids, one.learned, strict=True):
        if learned and not before:
            found.append([])
        if learned:
            found[-1].append(int(index))
        before = bool(learned)
    return [tokenizer.decode(run, skip_special_tokens=False) for run in found]


ENDS = {"chatml": "<|im_end|>", "smollm2": "<|im_end|>", "qwen": "<|im_end|>", "thinking": "<|im_end|>"}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_assistants_words_and_the_end_of_its_turn_are_learned_and_nothing_else(
    name: str, system: str | None
) -> None:
    one = tokenized(talk("Hi", "Hello 你好", "Hello?", "Yes.", system=system), TEMPLATES[name])
    end = ENDS.get(name, "</s>")
    wanted = ["Hello 你好" + end, "Yes." + end]
    if name == "llama2":  # what stands between prompt and answer is the model's to say
        wanted = [" Hello 你好 </s>", " Yes. </s>"]
    if name == "zephyr":
        wanted = ["\nHello 你好</s>", "\nYes.</s>"]
    assert runs(one) == wanted


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("tokenizer", [TOKENIZER, MERGING], ids=["bytes", "merges"])
@settings(max_examples=40)
@given(contents=st.lists(st.text(alphabet="ab\n <|>你", min_size=1, max_size=12), min_size=2, max_size=6))
def test_the_ids_are_those_that_a_server_would_encode(
    name: str, tokenizer: Tokenizer, contents: list[str]
) -> None:
    messages = talk(*contents)
    template = ChatTemplate(TEMPLATES[name], NAMED)
    one = RowTokenizer(tokenizer, template=template)([Conversation(messages, "x:1")])[0]
    if isinstance(one, Tokenized):
        text = template.render(messages, add_generation_prompt=False)
        assert one.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    else:
        assert isinstance(one, BadRow)


@settings(max_examples=40)
@given(
    asked=st.lists(st.text(alphabet="qwe\n ", min_size=1, max_size=9), min_size=1, max_size=3),
    said=st.lists(st.text(alphabet="ABC你\n ", min_size=1, max_size=9), min_size=3, max_size=3),
)
@pytest.mark.parametrize("source", [CHATML, SMOLLM2, QWEN], ids=["marked", "smollm2", "qwen"])
def test_whatever_is_said_exactly_the_answers_are_learned(
    source: str, asked: list[str], said: list[str]
) -> None:
    said = said[: len(asked)]
    contents = [text for pair in zip(asked, said, strict=True) for text in pair]
    assert runs(tokenized(talk(*contents), source)) == [answer + "<|im_end|>" for answer in said]


def test_a_token_that_begins_before_the_answer_is_not_learned() -> None:
    one = tokenized(talk("Hi", "\nHello there"), SMOLLM2, MERGING)
    assert isinstance(one, Tokenized)
    whole = MERGING.encode("assistant\n\nHello", add_special_tokens=False).tokens
    assert "ĊĊ" in whole  # the template's line end and the answer's are one token
    assert runs(one, MERGING) == ["Hello there<|im_end|>"]


def test_the_mask_is_that_of_transformers_where_the_template_marks_answers() -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(tokenizer_object=MERGING, chat_template=CHATML)
    messages = talk("Hi", "Hello there, 你好", "How are you?", " fine\n", system="Be brief.")
    told = reference.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    one = tokenized(messages, CHATML, MERGING)
    assert isinstance(one, Tokenized)
    assert one.learned is not None
    assert one.ids.tolist() == told["input_ids"]
    assert one.learned.astype(int).tolist() == told["assistant_masks"]


def test_calls_of_tools_are_learned_and_what_tools_answer_is_not() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = (
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "It is 2."},
    )
    tools = ({"type": "function", "function": {"name": "add"}},)
    call_turn, answer = runs(tokenized(messages, QWEN, tools=tools))
    assert call_turn == '<tool_call>\nadd{"a": 1}\n</tool_call><|im_end|>'
    assert answer == "It is 2.<|im_end|>"


def test_a_prompt_that_the_answer_does_not_go_on_from_leaves_the_answers_own_words() -> None:
    assert runs(tokenized(talk("Hi", "Hello"), THINKING)) == ["Hello<|im_end|>"]


def test_a_template_that_rewrites_earlier_answers_is_refused_with_the_row_and_the_mend() -> None:
    one = tokenized(talk("Hi", "Hello", "And?", "Yes"), FORGETFUL)
    assert isinstance(one, BadRow)
    assert "talk.jsonl:7: the chat template writes the answer in message 2 differently" in str(one)
    assert runs(tokenized(talk("Hi", "Hello"), FORGETFUL)) == ["Hello<|im_end|>"]


def test_what_the_template_refuses_is_told_with_the_row() -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "user", "content": "b"}, *talk("c", "d")[1:])
    one = tokenized(messages, TEMPLATES["llama2"])
    assert isinstance(one, BadRow)
    assert "talk.jsonl:7" in str(one)
    assert "must alternate" in str(one)


def test_a_model_without_a_template_cannot_take_conversations() -> None:
    with pytest.raises(
        BadInput, match=r"talk\.jsonl:7 is a conversation, and the model has no chat template"
    ):
        RowTokenizer(TOKENIZER)([Conversation(talk("a", "b"), "talk.jsonl:7")])


def test_a_conversation_longer_than_the_context_is_cut_or_dropped_as_declared() -> None:
    messages = talk("Hi", "Hello", "More", "x" * 500)
    cut = tokenized(messages, CHATML, longest=60)
    assert isinstance(cut, Tokenized)
    assert len(cut.ids) == 60
    assert cut.was_cut
    assert tokenized(messages, CHATML, longest=60, long="drop") is None
    assert tokenized(messages, CHATML, longest=10) is None  # no answer is left in what would stay


def test_an_answer_that_spells_a_mark_is_not_taken_for_one() -> None:
    assert runs(tokenized(talk("{% generation %}", "{% endgeneration %}"), CHATML)) == [
        "{% endgeneration %}<|im_end|>"
    ]
