"""Chat templates: rendered as Hugging Face renders them, within bounds that a hostile one cannot leave."""

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.text.chat import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "你好 <b>&\"'"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "And now?"},
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "get", "description": "取 <x>", "parameters": {"a": [1, 2.5, None]}},
    }
]
CHATML = (
    "{% for message in messages %}\n    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message['content'] ~ eos_token }}\n"
    "{% endfor %}\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOOPS = (
    "{%- for m in messages -%}{%- if loop.index0 == 1 -%}{%- continue -%}{%- endif -%}"
    "{{ loop.index }}/{{ loop.length }}{{ loop.last }}{{ m.content | trim | upper }}{%- endfor -%}"
    "{%- set ns = namespace(n=0) -%}{%- for i in range(5) -%}{%- set ns.n = ns.n + i -%}{%- if i == 3 %}{% break %}"
    "{% endif -%}{%- endfor -%}{{ ns.n }}"
)
TOOL_USE = (
    "{%- if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{{ tools | tojson(indent=2) }}{% endif %}"
    "{%- generation %}{{ messages[-1].content }}{% endgeneration %}"
)
MACROS = (
    "{%- macro show(m, depth=0) -%}{{ m.role[:1] }}{{ ' ' * depth }}{{ m.content.split('?')[0].replace('n', 'N') }}"
    "{%- endmacro -%}{%- for m in messages -%}{{ show(m, depth=2) }};{%- endfor -%}{{ bos_token }}"
    "{{ messages | map(attribute='role') | join(', ') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
)


@pytest.mark.parametrize(
    "source", [CHATML, LOOPS, TOOL_USE, MACROS], ids=["chatml", "loops", "tools", "macros"]
)
def test_a_template_renders_as_transformers_renders_it(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    special = {"bos_token": "<s>", "eos_token": "</s>"}
    reference, _ = render_jinja_template(
        [MESSAGES], chat_template=source, tools=TOOLS, add_generation_prompt=True, **special
    )
    assert ChatTemplate(source, special).render(MESSAGES, tools=TOOLS) == reference[0]


def test_a_template_may_refuse_the_messages_in_its_own_words() -> None:
    with pytest.raises(BadInput, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(MESSAGES)


def test_the_date_of_today_can_be_written() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]) == time.strftime("%Y")


@pytest.mark.parametrize(
    "source", ["{% for x in %}", "{{ a | nosuchfilter }}", "{% if %}", "{{ 'a' ", "x" * (2**20 + 1)]
)
def test_what_is_no_template_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(BadInput):
        ChatTemplate(source)


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ '{0.__class__.__init__}'.format(messages) }}",
    "{{ messages.append({}) }}",
    "{% include '/etc/passwd' %}",
    "{{ lipsum(n=100000) }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    messages = list(MESSAGES)
    try:
        text = ChatTemplate(source).render(messages)
    except BadInput:
        text = ""
    assert text == ""
    assert messages == MESSAGES


BOMBS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'xxxxxxxxxx' }}{% endfor %}{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ 'x' * 10000000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ [0] * 10000000000 }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aaaa') %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x | replace('a', 'aaaa') %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=2) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{{ 'x'.center(10000000000) }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x' | center(10000000000) }}",
    "{{ 'a\nb' | indent(10000000000) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:10000000000}'.format(1) }}",
    "{{ '%*d' | format(1000000000, 1) }}",
    "{{ (1).to_bytes(10000000000, 'big') }}",
    "{{ [1] | batch(10000000000, 0) | list }}",
    "{{ range(99999) | join('x' * 99999) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% set x %}{% for i in range(99999) %}" + "y" * 100_000 + "{% endfor %}{% endset %}{{ x }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ range(99999) | map('string') | map('replace', '9', 'x' * 99999) | list }}",
]


@pytest.mark.parametrize("source", BOMBS, ids=range(len(BOMBS)))
def test_a_template_cannot_eat_time_or_memory(source: str) -> None:
    start = time.monotonic()
    with pytest.raises(BadInput):
        ChatTemplate(source).render(MESSAGES)
    assert time.monotonic() - start < 15


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(st.fixed_dictionaries({"role": st.text(), "content": JSON})))
def test_any_messages_give_a_prompt_or_an_error_of_ours(messages: list[dict[str, Any]]) -> None:
    with suppress(BadInput):
        assert isinstance(ChatTemplate(CHATML).render(messages), str)


def test_two_renderings_do_not_share_a_budget() -> None:
    template = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok")
    assert {template.render([]) for _ in range(30)} == {"ok"}
