"""Chat templates: messages to a prompt, by the Jinja source that a checkpoint carries.

The source comes with a model and may be hostile. It runs in Jinja's sandbox, which keeps it from Python,
and in the bounds of `_Budget`, which keep it from eating time and memory. The conventions are those of
Hugging Face's `apply_chat_template`.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from itertools import accumulate, islice
from secrets import token_hex

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from kun.errors import BadInput

_LONGEST_SOURCE = 2**20
_LONGEST_TEXT = 2**25
_MOST_TEXT = 2**28
_MOST_STEPS = 1_000_000
_SECONDS = 10.0
_WIDE_FIELD = re.compile(r"\d{5}|\*")
#: filters that a chat template has no use for, and that make much out of little
_REMOVED = ("batch", "center", "filesizeformat", "pprint", "slice", "urlize", "wordwrap", "xmlattr", "random")
_PADDING = ("center", "ljust", "rjust", "zfill", "expandtabs")


class _TooMuch(Exception):
    """A template that goes beyond its bounds."""


class _Budget:
    """What one rendering may use: steps of loops and calls, seconds, and characters, of one text and of all."""

    def __init__(self) -> None:
        self._steps = _MOST_STEPS
        self._characters = _MOST_TEXT
        self._until = time.monotonic() + _SECONDS

    def spend(self, steps: int = 1) -> None:
        self._steps -= steps
        if self._steps < 0 or time.monotonic() > self._until:
            raise _TooMuch("it runs too long")

    def make(self, characters: int) -> None:
        self._characters -= characters
        if characters > _LONGEST_TEXT or self._characters < 0:
            raise _TooMuch("it makes too much text")

    @property
    def steps(self) -> int:
        return self._steps


_budget: ContextVar[_Budget] = ContextVar("_budget")
#: written before and after each `{% generation %}` block; empty for a prompt
_mark: ContextVar[str] = ContextVar("_mark", default="")


def _sized(size: int) -> None:
    """Called before a text or list of `size` is made."""
    _budget.get().make(size)


class ChatTemplate:
    """A compiled chat template. `special_tokens` are texts by name (bos_token, eos_token, …) that it may use.

    Raises `BadInput` for a source that is no template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        if len(source) > _LONGEST_SOURCE:
            raise BadInput(f"The chat template has {len(source)} characters; {_LONGEST_SOURCE} are the most.")
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except (
            TemplateSyntaxError,
            RecursionError,
            ValueError,
            SyntaxError,
            OverflowError,
            _TooMuch,
        ) as error:
            raise BadInput(
                f"The chat template cannot be read ({error}): use a model with a sound one."
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        **variables: object,
    ) -> str:
        """The prompt for `messages` (role and content each); `tools` are function descriptions as JSON schemas.

        Raises `BadInput` where the template refuses the messages, or goes beyond its bounds.
        """
        token = _budget.set(_Budget())
        try:
            pieces = self._template.generate(
                **self.special_tokens,
                **variables,
                messages=list(messages),
                tools=list(tools) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
            return _bounded_join(pieces)
        except TemplateError as error:
            raise BadInput(f"The chat template refuses these messages: {error.message or error}.") from error
        except Exception as error:  # whatever a template may do wrong: it is data, not code of ours
            raise BadInput(
                f"The chat template fails on these messages: {error or type(error).__name__}."
            ) from error
        finally:
            _budget.reset(token)

    def render_marked(
        self, messages: Sequence[Mapping[str, object]], *, tools: Sequence[Mapping[str, object]] | None = None
    ) -> tuple[str, list[tuple[int, int]]]:
        """The whole conversation, and the spans `[start, end)` that the template marks with `{% generation %}`.

        No spans where the template marks nothing. Raises `BadInput`, as `render` does.
        """
        mark = token_hex(16)  # which no message can hold
        token = _mark.set(mark)
        try:
            text = self.render(messages, tools=tools, add_generation_prompt=False)
        finally:
            _mark.reset(token)
        return _cut_at_marks(text, mark)


def _cut_at_marks(text: str, mark: str) -> tuple[str, list[tuple[int, int]]]:
    parts = text.split(mark)
    ends = list(accumulate(map(len, parts)))
    return "".join(parts), list(zip(ends[:-1:2], ends[1::2], strict=False))


def _bounded_join(pieces: Iterable[str]) -> str:
    parts: list[str] = []
    size = 0
    for piece in pieces:
        text = str(piece)
        size += len(text)
        if size > _LONGEST_TEXT:
            break
        parts.append(text)
    _sized(size)
    return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with every way to make much out of little measured first."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    concat = staticmethod(_bounded_join)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Limits().visit(tree)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        _budget.get().spend()
        if operator == "**":
            raise _TooMuch("it raises numbers to powers")
        if operator == "*":
            _check_product(left, right)
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _sized(len(left) + len(right))
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: object, /, *args: object, **kwargs: object) -> object:
        _budget.get().spend()
        if not isinstance(obj, Undefined):
            _check_call(obj, args, kwargs)
        return super().call(context, obj, *args, **kwargs)


def _check_product(left: object, right: object) -> None:
    for many, times in ((left, right), (right, left)):
        if hasattr(many, "__len__") and isinstance(times, int):
            _sized(len(many) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        _sized(left.bit_length() + right.bit_length())


def _check_format(pattern: str) -> None:
    if _WIDE_FIELD.search(pattern):
        raise _TooMuch("it pads too widely")


def _check_call(obj: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """Methods of texts and numbers that make much out of little."""
    method = getattr(obj, "__wrapped__", obj)  # Jinja wraps str.format
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(owner, int) and name == "to_bytes":
        raise _TooMuch("it turns numbers into bytes")
    if not isinstance(owner, str | bytes):
        return
    values = [*args, *kwargs.values()]
    if name in _PADDING:
        _sized(len(owner) * (1 + max((value for value in values if isinstance(value, int)), default=0)))
    if name == "replace" and len(values) > 1:
        _sized((len(owner) + 1) * (len(str(values[1])) + 1))
    if name == "join" and values:
        _check_join(owner, values[0])
    if name in ("format", "format_map"):
        _check_format(str(owner))


def _check_join(between: str | bytes, values: object) -> None:
    if isinstance(values, Sized) and isinstance(values, Iterable):
        _sized(
            len(values) * (len(between) + 1) + sum(len(value) for value in values if isinstance(value, str))
        )


class _Limits(NodeTransformer):
    """Put `limited` around what each loop goes over, and `concatenated` in the place of `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "limited", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "concatenated", [], [], None, None, lineno=node.lineno)


def _limited(values: Iterable[object]) -> list[object]:
    budget = _budget.get()
    items = list(islice(values, budget.steps + 1))
    budget.spend(len(items))
    return items


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` marks what the assistant says; for a prompt it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [self._marking(line), *body, self._marking(line)]

    def _marking(self, line: int) -> nodes.Node:
        return nodes.Output([self.call_method("mark")], lineno=line)

    def mark(self) -> str:
        """What is written where a block begins and where it ends."""
        return _mark.get()


def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    for name in _REMOVED:
        environment.filters.pop(name, None)
    environment.globals.pop("lipsum", None)
    for name, measure in _MEASURES.items():
        environment.filters[name] = _measured(environment.filters[name], measure)
    environment.filters |= {"tojson": _tojson, "limited": _limited, "concatenated": _bounded_join}
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment


def _measured(function: Callable[..., object], measure: Callable[..., None]) -> Callable[..., object]:
    """A filter whose arguments are looked at first."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def checked(*args: object, **kwargs: object) -> object:
        _budget.get().spend()
        measure(*args[skip:], **kwargs)
        return function(*args, **kwargs)

    return checked


def _measure_replace(text: object, old: object, new: object, count: object = None) -> None:
    _sized((len(str(text)) + 1) * (len(str(new)) + 1))


def _measure_indent(text: object, width: object = 4, *rest: object, **named: object) -> None:
    wide = width if isinstance(width, int) else len(str(width))
    _sized(len(str(text)) + (str(text).count("\n") + 1) * wide)


def _measure_join(values: object, d: object = "", attribute: object = None) -> None:
    _check_join(str(d), values)


def _measure_format(pattern: object, *args: object, **named: object) -> None:
    _check_format(str(pattern))


_MEASURES: dict[str, Callable[..., None]] = {
    "replace": _measure_replace,
    "indent": _measure_indent,
    "join": _measure_join,
    "format": _measure_format,
}


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: without the escapes that HTML would need."""
    if isinstance(indent, int) and not 0 <= indent <= 16:
        raise _TooMuch("it indents JSON too far")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


def _strftime_now(pattern: str) -> str:
    if len(pattern) > 200:
        raise _TooMuch("its date is too long")
    _check_format(pattern)
    return datetime.now().strftime(pattern)
