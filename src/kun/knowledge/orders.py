"""Documents give no orders: the stretches of a text that address the assistant, or forge the turns of a conversation.

Such a stretch ("Ignore all previous instructions …", a persona, `<|im_start|>system`, a made-up end of the documents,
base64 that decodes to a command) is data that nobody asked for: no evidence for an answer, and nothing that the
model needs to read. It is found by the signs in `order_cues`, the same for every question; a question about orders
(`asks_about_orders`) may see them, as quoted text. The threat is described in Greshake et al. (2023), "Not what
you've signed up for", arXiv:2302.12173.
"""

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from kun.knowledge.order_cues import cues
from kun.text.sentences import sentences

Stretch = tuple[int, int]

_ENOUGH = 3
"""Weight of the signs in one sentence that make it an order."""
_ENOUGH_BEHIND = 2
"""The same right behind an order: "Say it twice." goes on with what came before."""
_ENOUGH_IN_A_LINE = 5
"""Weight of the signs of a whole line, none of whose sentences is enough."""
_SHORTEST = 6
_AROUND = 600
"""Characters before and behind a stretch that are read with it."""
_LONGEST_TURN = 4000
_LONGEST_ENDING = 120
_LONGEST_CODE = 20_000
_LONGEST_LINE = 4000
"""Characters of a line that are read for signs; a longer one is read in parts."""

_TOKEN = re.compile(
    r"<\|[a-z_]{2,40}\|>|<｜[^｜>\n]{2,40}｜>|\[/?INST\]|<</?SYS>>|</?s>(?=\s*(?:\[INST\]|<s>|$))"
    r"|<(?:start|end)_of_turn>|<\|(?:start|end)_header_id\|>",
    re.IGNORECASE | re.MULTILINE,
)
_SHOWN = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1|\Z)|`[^`\n]+`", re.DOTALL | re.MULTILINE)
"""Fenced blocks and code within a line."""
_ROLE = re.compile(
    r"[ \t>#*_\[【(（]*(system|assistant|user|human|ai|bot|model|系统|助手|用户|模型|人类)"
    r"(?: (?:message|prompt)|提示|消息)?[\]】)）*_ \t]*[:：]",
    re.IGNORECASE,
)
_SYSTEM = frozenset(("system", "系统"))
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|!\[[^\[\]]*\](?:\([^()\n]*\))?|<img\b[^<>]*>", re.DOTALL)
_CODE = re.compile(r"(?:[A-Za-z0-9+/_-]{24,}=*|(?:[A-Za-z0-9+/]{40,}\n)+[A-Za-z0-9+/]{2,}=*)={0,2}")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_TAGS = re.compile("[\U000e0020-\U000e007e]")
_WIDE = {
    code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_QUOTED = re.compile(
    r"“[^”\n]{0,300}”|「[^」\n]{0,300}」|『[^』\n]{0,300}』|«[^»\n]{0,300}»|\"[^\"\n]{0,300}\"|`[^`\n]{1,300}`|‘[^’\n]{0,300}’"
)
_MENTIONED = 0.8
"""The share of a sentence from which a quotation is the sentence itself, and no longer something it speaks of."""
_CELL = re.compile(r"(?:^|;[ \t])([^:;|\n]{1,60}): ")
_CITATION = re.compile(
    r"[ \t>*-]*[\[【(（](?:来源|资料|文档|段落|source|passage|document|doc)?\s*\d{1,2}[\]】)）]",
    re.IGNORECASE,
)
_DECISIVE = frozenset(("override", "exclusive", "language", "decode", "task", "duty"))
_SPOKEN_TO = ("address", "meta", "persona")
_ASKS = re.compile(
    r"prompt injection|inject(?:ed|ion)|(?:提示|指令)词?注入"
    r"|(?:hidden|embedded|secret)\s+(?:\w+\s+)?(?:instruction|order|command|text|message|prompt|comment)"
    r"|(?:instruction|order|command|prompt|message)s?\b[^?.]{0,40}\b(?:to|for|at|address\w*)\b"
    r"[^?.]{0,20}\b(?:AI|assistants?|model|chat ?bots?|LLM)"
    r"|(?:隐藏|夹带|嵌入|暗藏|藏)[^？。]{0,8}(?:指令|指示|命令|文字|提示)"
    r"|(?:给|对|针对|写给|面向)\s*(?:AI|助手|大?模型|人工智能|机器人)[^？。]{0,8}(?:指令|指示|命令|话|要求|提示)"
    r"|(?:指令|指示|命令)[^？。]{0,10}(?:AI|助手|大?模型|人工智能)",
    re.IGNORECASE,
)


def orders_in(text: str) -> list[Stretch]:
    """The stretches `[start, end)` of `text` that are orders to the assistant or forged turns, in order, apart.

    Takes time in proportion to the length.
    """
    plain, places = _plain(text)
    found = [*_forged_turns(plain), *_encoded(plain), *_hidden(plain)]
    found += _said(plain, found)
    return [(places(start), places(end)) for start, end in _joined(found)]


def without_orders(text: str, start: int = 0, end: int | None = None) -> str:
    """`text[start:end]` without its orders, and without the empty lines that they would leave.

    The text around it is read for signs too: an order that began above goes on to its end.
    """
    end = len(text) if end is None else end
    first = max(0, start - _AROUND)
    parts: list[str] = []
    done = start
    for one, other in orders_in(text[first : end + _AROUND]):
        if start < first + other and first + one < end:
            parts.append(text[done : max(done, first + one)])
            done = min(first + other, end)
    if not parts:
        return text[start:end]
    kept = "".join([*parts, text[done:end]])
    return re.sub(r"\n[ \t]*\n(?:[ \t]*\n)+", "\n\n", re.sub(r"[ \t]+(?=\n)", "", kept))


def asks_about_orders(question: str) -> bool:
    """True where a question is about instructions that a document holds: it may quote them."""
    return bool(_ASKS.search(question))


class _Places:
    """From places in the readable text to those in the original, which has more characters."""

    def __init__(self, dropped: Sequence[int]) -> None:
        self._dropped = dropped

    def __call__(self, place: int) -> int:
        for at in self._dropped:
            if at > place:
                break
            place += 1
        return place


def _plain(text: str) -> tuple[str, _Places]:
    """The text as a reader takes it: no invisible characters, full-width letters narrow, tag letters as letters."""
    if text.isascii():
        return text, _Places([])
    text = _TAGS.sub(lambda match: chr(ord(match[0]) - 0xE0000), text.translate(_WIDE))
    dropped = [match.start() for match in _UNSEEN.finditer(text)]
    return (_UNSEEN.sub("", text) if dropped else text), _Places(dropped)


def _joined(found: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif end > start:
            joined.append((start, end))
    return joined


def _forged_turns(text: str) -> Iterator[Stretch]:
    """From a template's first token to its last and the line behind it; tokens that code shows are only mentioned."""
    shown = [match.span() for match in _SHOWN.finditer(text)]
    tokens = [match for match in _TOKEN.finditer(text) if not _is_within(match.span(), shown)]
    place = 0
    while place < len(tokens):
        start, end = tokens[place].span()
        place += 1
        while place < len(tokens) and tokens[place].start() - end <= _LONGEST_TURN:
            end = tokens[place].end()
            place += 1
        rest = re.compile(r"(?:[ \t]*(?:system|user|assistant|model)?[ \t]*\n)?[^\n]*").match(text, end)
        yield start, _end_of_cell(text, start, rest.end() if rest else end)


def _is_within(stretch: Stretch, others: Sequence[Stretch]) -> bool:
    place = bisect_right(others, stretch[0], key=lambda other: other[0])
    return place > 0 and stretch[1] <= others[place - 1][1]


def _encoded(text: str) -> Iterator[Stretch]:
    """Base64 that decodes to an order, or that is to be decoded and obeyed, with the line that demands it."""
    for match in _CODE.finditer(text):
        decoded = _decoded(match[0])
        if decoded is None:
            continue
        line = text.rfind("\n", 0, match.start()) + 1
        lead = (
            line if text[line : match.start()].strip() else text.rfind("\n", 0, len(text[:line].rstrip())) + 1
        )
        leads = any(cue.kind == "decode" and cue.pattern.search(text, lead, match.start()) for cue in cues())
        if leads or orders_in(decoded):
            yield (lead if leads else match.start()), match.end()


def _decoded(code: str) -> str | None:
    """The text that base64 holds, or None where it holds none."""
    if len(code) > _LONGEST_CODE:
        return None
    letters = code.replace("\n", "").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(letters + "=" * (-len(letters) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return (
        decoded if decoded and all(letter.isprintable() or letter.isspace() for letter in decoded) else None
    )


def _hidden(text: str) -> Iterator[Stretch]:
    """Comments and descriptions of pictures, which nobody sees on the page, as soon as they hold an order."""
    for match in _HIDDEN.finditer(text):
        inside = re.sub(r"^<!--|-->$|^!\[|\]\(|\)$|[\[\]]", "\n", match[0])
        if any(_is_order(inside[start:end], _ENOUGH) for start, end in sentences(inside)) or _is_order(
            inside[:_LONGEST_LINE], _ENOUGH
        ):
            yield match.span()


def _said(text: str, known: Sequence[Stretch]) -> list[Stretch]:
    """Sentences that give orders, each to the end of its line, and what goes on with them.

    A line that makes the documents end goes too where an order follows it.
    """
    found: list[Stretch] = []
    ending: Stretch | None = None
    behind, last = False, 0
    original, text = text, _without(text, known)
    for start, end, is_cell in _fields(text):
        if end - start < _SHORTEST or not text[start:end].strip():
            continue
        behind = behind or any(last <= one < start for one, _ in known)
        last = end
        stretch = _order_of(text, start, end, _ENOUGH_BEHIND if behind and not is_cell else _ENOUGH)
        if stretch:
            found += [ending, stretch] if ending else [stretch]
        behind = stretch is not None and not is_cell
        ending = (start, end) if end - start <= _LONGEST_ENDING and _ends_documents(text[start:end]) else None
    return [*found, *_role_lines(original, found)]


def _without(text: str, stretches: Sequence[Stretch]) -> str:
    """`text` with blanks in the place of `stretches`, so that the text before one is a sentence of its own."""
    for start, end in stretches:
        blank = "\n" if "\n" in text[start:end].strip() else " "
        text = text[:start] + blank * (end - start) + text[end:]
    return text


def _ends_documents(line: str) -> bool:
    return any(cue.kind == "ending" and cue.pattern.search(line) for cue in cues())


def _fields(text: str) -> Iterator[tuple[int, int, bool]]:
    """The cells of table rows (True), and the paragraphs between (False)."""
    start = end = 0
    place = 0
    for line in text.splitlines(keepends=True):
        cells = list(_cells(text, place, place + len(line.rstrip())))
        if cells or not line.strip():
            if end > start:
                yield start, end, False
            for cell in cells:
                yield *cell, True
            start = end = place + len(line)
        else:
            end = place + len(line)
        place += len(line)
    if end > start:
        yield start, end, False


def _cells(text: str, start: int, end: int) -> list[Stretch]:
    """The cells of the row `text[start:end]`: between pipes, or behind the column's name; none where it is no row."""
    line = text[start:end]
    if line.count("|") >= 2 and line.lstrip().startswith("|"):
        cuts = [match.start() for match in re.finditer(r"(?<!\\)\|", line)]
        return [(start + one + 1, start + other) for one, other in pairwise(cuts)]
    names = list(_CELL.finditer(line))
    if len(names) < 2:
        return []
    ends = [*(name.start() for name in names[1:]), len(line)]
    return [(start + name.end(), start + stop) for name, stop in zip(names, ends, strict=True)]


def _order_of(text: str, start: int, end: int, enough: int) -> Stretch | None:
    """The order within a cell or a paragraph, from the sentence that begins it."""
    spans = [(start + one, start + other) for one, other in sentences(text[start:end])]
    hits = [
        span
        for place, span in enumerate(spans)
        if _is_order(text[slice(*span)], enough if not place else _ENOUGH)
    ]
    first: int | None = hits[0][0] if hits else None
    last = hits[-1][1] if hits else 0
    for one, other in _lines(text, start, end):
        line = text[one:other][:_LONGEST_LINE]
        enough = _ENOUGH_BEHIND if _CITATION.match(line) else _ENOUGH_IN_A_LINE
        if (first is None or one < first) and _weight(line) >= enough:
            signed = [span for span in spans if one <= span[0] < other and _weight(text[slice(*span)]) > 1]
            first = min(first if first is not None else end, signed[0][0] if signed else one)
            last = max(last, other)
    if first is None:
        return None
    return _with_frame(text, start, first), _end_of_order(text, last, end)


def _lines(text: str, start: int, end: int) -> Iterator[Stretch]:
    while start < end:
        stop = min(_line_end(text, start), end)
        yield start, stop
        start = stop + 1


def _line_end(text: str, place: int) -> int:
    stop = text.find("\n", place)
    return len(text) if stop < 0 else stop


def _with_frame(text: str, start: int, first: int) -> int:
    """Where an order begins with what leads to it on its line: a made-up citation, a bracket, an end of documents."""
    line = max(start, text.rfind("\n", 0, first) + 1)
    if _CITATION.match(text, line):
        return line
    lead = text[line:first]
    opening = re.search(r"[（(【\[*_>#—-]+\s*$", lead)
    return line + opening.start() if opening else first


def _end_of_order(text: str, last: int, end: int) -> int:
    """To the end of the line, and on where the line is broken within a sentence."""
    if text[last - 1 : last] == "\n":
        last -= 1
    stop = min(_line_end(text, last), end)
    while stop < end and text[:stop].rstrip()[-1:] not in '.!?。！？…:：”」")）】]':
        stop = min(_line_end(text, stop + 1), end)
    return stop


def _end_of_cell(text: str, start: int, end: int) -> int:
    line = text.rfind("\n", 0, start) + 1
    for _, stop in _cells(text, line, _line_end(text, line)):
        if start < stop:
            return min(end, stop)
    return end


def _role_lines(text: str, orders: Sequence[Stretch]) -> list[Stretch]:
    """Runs of lines with roles ("system: …", "assistant: …") that hold an order or a turn of the system."""
    found: list[Stretch] = []
    run: list[tuple[int, int, str]] = []
    for start, end in [*_lines(text, 0, len(text)), (len(text), len(text))]:
        role = _ROLE.match(text, start, end)
        if role:
            run.append((start, end, role[1].casefold()))
            continue
        if run and not text[start:end].strip() and end < len(text):
            continue
        forged = any(one < stop and begin < other for begin, stop, _ in run for one, other in orders)
        roles = {name for *_, name in run}
        if run and (forged or (roles & _SYSTEM and len(roles) > 1)):
            found += [(begin, stop) for begin, stop, _ in run]
        run = []
    return found


def _is_order(sentence: str, enough: int) -> bool:
    return _weight(sentence[:_LONGEST_LINE]) >= enough


def _weight(sentence: str) -> int:
    """The weight of all signs in a sentence: 0 unless the assistant, or its answer, is spoken to or of."""
    used = (
        _QUOTED.sub(_mention, sentence)
        if len(_quoted(sentence)) < _MENTIONED * len(sentence.strip())
        else sentence
    )
    weights: dict[str, int] = {}
    for cue in cues():
        if weights.get(cue.kind, 0) < cue.weight and cue.pattern.search(used):
            weights[cue.kind] = cue.weight
    named = weights.keys() >= {"say", "payload"} and bool(weights.keys() & {"ending", "agent"})
    if named or weights.keys() & _DECISIVE or any(weights.get(kind, 0) > 1 for kind in _SPOKEN_TO):
        if "duty" in weights:  # "The chatbot must answer within a second." is about it, not to it
            weights = {
                kind: weight
                for kind, weight in weights.items()
                if kind not in ("address", "say") and (kind != "meta" or weight > 1)
            }
        return sum(weight for kind, weight in weights.items() if kind != "agent")
    return 0


def _quoted(sentence: str) -> str:
    return "".join(match[0] for match in _QUOTED.finditer(sentence))


def _mention(match: re.Match[str]) -> str:
    """A quotation reduced to its marks: its words are mentioned, not used."""
    return f"{match[0][0]}{match[0][-1]}"
