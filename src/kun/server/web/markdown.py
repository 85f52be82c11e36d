"""Markdown from models and documents as HTML that can do nothing: no markup of theirs, no request, no script.

The HTML is safe by construction: the parser escapes every tag, links go only to http(s) and mailto, pictures
become links, and all other markup is written here.
"""

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

_Values = MutableMapping[str, object]

MAX_RENDERED = 400_000
_MAX_HIGHLIGHTED = 30_000
_CITATION = re.compile(r"\[(\d{1,3}(?:\s?[,，、]\s?\d{1,3})*)\]")
_LINKS = frozenset({"http", "https", "mailto"})


def render(text: str, n_passages: int = 0, copy: str = "Copy") -> str:
    """HTML of Markdown. `[n]` becomes a button where passage n of `n_passages` exists; `copy` labels code's button."""
    env = {"n_passages": n_passages, "copy": copy}
    return _parser().render(text[:MAX_RENDERED], env)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 40})
    parser.enable(["table", "strikethrough"])
    parser.inline.ruler.before("link", "citation", _parse_citation)
    parser.validateLink = _is_harmless  # type: ignore[method-assign]
    parser.add_render_rule("citation", _render_citation)
    parser.add_render_rule("image", _render_image)
    parser.add_render_rule("link_open", _render_link)
    parser.add_render_rule("fence", _render_code)
    parser.add_render_rule("code_block", _render_code)
    parser.add_render_rule("table_open", lambda *_: '<div class="table-scroll"><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    return parser


def _parse_citation(state: StateInline, silent: bool) -> bool:
    """`[1]` and `[1, 2]`, where all those passages exist and no link's address follows."""
    match = _CITATION.match(state.src, state.pos)
    if match is None or state.src[match.end() : match.end() + 1] == "(":
        return False
    numbers = [int(number) for number in re.findall(r"\d+", match.group())]
    if not all(1 <= number <= state.env.get("n_passages", 0) for number in numbers):
        return False
    if not silent:
        for number in numbers:
            state.push("citation", "", 0).meta = {"n": number}
    state.pos = match.end()
    return True


def _is_harmless(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in _LINKS
    except ValueError:
        return False


def _render_citation(
    self: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: _Values
) -> str:
    number = tokens[index].meta["n"]
    return f'<button type="button" class="cite" data-n="{number}">{number}</button>'


def _render_image(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: _Values
) -> str:
    """A picture is a link to it: showing it would tell its server that someone reads this."""
    token = tokens[index]
    url = str(token.attrGet("src") or "")
    alt = self.renderInlineAsText(token.children or [], options, env) or url
    return f'<a class="picture" {_link_attributes(url)}>{escape(alt)}</a>' if url else escape(alt)


def _render_link(
    self: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: _Values
) -> str:
    return f"<a {_link_attributes(str(tokens[index].attrGet('href') or ''))}>"


def _link_attributes(url: str) -> str:
    return f'href="{escape(url)}" title="{escape(url)}" target="_blank" rel="noopener noreferrer nofollow"'


def _render_code(
    self: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, env: _Values
) -> str:
    token = tokens[index]
    language = re.sub(r"[^\w+#.-]", "", (token.info.split() or [""])[0])[:20]
    copy = escape(str(env.get("copy", "Copy")))
    return (
        f'<div class="code"><div class="code-head"><span>{escape(language)}</span>'
        f'<button type="button" class="copy-code">{copy}</button></div>'
        f'<pre tabindex="0"><code>{highlighted(token.content, language)}</code></pre></div>\n'
    )


def highlighted(code: str, language: str) -> str:
    """Code as HTML with Pygments' classes; escaped plainly where the language is unknown or the code long."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    if not language or len(code) > _MAX_HIGHLIGHTED:
        return escape(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return highlight(code, lexer, HtmlFormatter(nowrap=True))
