"""A page of what a judge found: the table, the radar, how far the judge holds, and every answer with its verdicts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape

from kun.evaluation.judging.answers import Answers
from kun.evaluation.judging.questions import Question, QuestionId
from kun.evaluation.judging.radar import radar
from kun.evaluation.judging.standings import Interval, Judged
from kun.evaluation.judging.verdicts import Compared, Scored, Verdicts

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#0c2836;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1,h2{line-height:1.2}table{border-collapse:collapse;margin:1rem 0}.scroll{overflow-x:auto}
td,th{padding:.3rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid #dbe4e8}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.dim{color:#4a6573}
.warning{background:#fdf1ef;border-left:4px solid #b5524a;padding:.5rem 1rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .5rem;font:inherit}
p.dim{margin:.5rem 0 0}
.answers{display:flex;gap:1rem;flex-wrap:wrap}.answers>div{flex:1 1 20rem;border-top:2px solid #dbe4e8}
summary{cursor:pointer}figure{margin:1rem 0;background:#fff}figure svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#0f1c22;color:#e4eef1}td,th{border-color:#2b3f48}
.dim{color:#9db4bd}.warning{background:#3a2320}.answers>div{border-color:#2b3f48}}
"""

_SUMMARY = 110
"""Characters of a question in the line that opens it."""


def page(
    judged: Judged, questions: Sequence[Question], answers: Sequence[Answers], verdicts: Verdicts
) -> str:
    """The page; it needs no other file."""
    title = " · ".join(one.model for one in judged.standings)
    compared: dict[QuestionId, list[Compared]] = defaultdict(list)
    for one in verdicts.compared:
        compared[one.question].append(one)
    scored: dict[QuestionId, list[Scored]] = defaultdict(list)
    for score in verdicts.scored:
        scored[score.question].append(score)
    picture = radar(judged, "svg").decode()
    turned = ", every pair in both orders" if judged.consistency.sees_order else ""
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='dim'>Questions: {judged.questions}, categories: {len(judged.categories)}. Judged by "
        f"{escape(judged.judge)} ({judged.kind}){turned}.</p>",
        _trust(judged),
        _table(judged),
        _encounters(judged),
        f"<figure>{picture[picture.index('<svg') :]}</figure>",
        "<h2>Questions</h2>",
        *(
            _question(one, answers, compared[one.id], scored[one.id], judged.score_digits)
            for one in questions
        ),
    ]
    return (
        "<!doctype html><html><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def trust(judged: Judged) -> str:
    """How the judge's verdicts hold when the order is turned, as a sentence; empty where nothing was compared."""
    held = judged.consistency
    if not held.compared + held.unclear:
        return ""
    if not held.sees_order:
        return "A reward model scores each answer by itself: its verdict cannot flip with the order."
    unclear = f"; {held.unclear} without a verdict" if held.unclear else ""
    equal = f"; {held.equal} pairs of equal answers were not asked about" if held.equal else ""
    cut = f"; in {held.cut} the answers were cut to fit the judge's context" if held.cut else ""
    return (
        f"Order turned: {held.flips} of {held.compared} verdicts flip ({held.share:.0%}; {held.first} for the first "
        f"answer, {held.second} for the second), {held.wavers} more are a tie in one order{unclear}{equal}{cut}."
    )


def _trust(judged: Judged) -> str:
    shown = "".join(f"<p class='warning'>{escape(warning)}</p>" for warning in judged.warnings)
    return f"<p>{escape(trust(judged))}</p>{shown}"


def _table(judged: Judged) -> str:
    digits = judged.score_digits
    names = ("model", "win rate", "wins", "ties", "losses", "score", "tokens", "seconds")
    rows = []
    for one in judged.standings:
        cells = [
            _shown(one.win_rate),
            str(one.wins),
            str(one.ties),
            str(one.losses),
            _shown(one.score, digits),
        ]
        cells += [str(one.tokens), f"{one.seconds:.0f}"]
        rows.append(f"<tr><th>{escape(one.model)}</th>{_numbers(cells)}</tr>")
    return _framed(names, rows) + _categories(judged)


def _categories(judged: Judged) -> str:
    """A row for each category, a column for each model; nothing without a verdict or a score."""
    is_compared = any(one.win_rate_by_category for one in judged.standings)
    by = [one.win_rate_by_category if is_compared else one.score_by_category for one in judged.standings]
    digits = 2 if is_compared else judged.score_digits
    rows = [
        f"<tr><th>{escape(name)}</th>"
        + _numbers([f"{each[name]:.{digits}f}" if name in each else "" for each in by])
        + "</tr>"
        for name in judged.categories
    ]
    head = ("win rate in" if is_compared else "score in", *(one.model for one in judged.standings))
    return _framed(head, rows) if any(by) else ""


def _framed(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<div class='scroll'><table><tr>{cells}</tr>{''.join(rows)}</table></div>"


def _numbers(cells: Sequence[str]) -> str:
    return "".join(f"<td class='n'>{cell}</td>" for cell in cells)


def _encounters(judged: Judged) -> str:
    if not judged.encounters:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.a)}</td><td>{escape(one.b)}</td><td class='n'>{one.wins}</td><td class='n'>{one.ties}"
        f"</td><td class='n'>{one.losses}</td><td class='n'>{_shown(one.win_rate)}</td></tr>"
        for one in judged.encounters
    )
    head = "<tr><th>model</th><th>against</th><th>wins</th><th>ties</th><th>losses</th><th>win rate</th></tr>"
    return f"<table>{head}{rows}</table>"


def _shown(value: Interval | None, digits: int = 2) -> str:
    return "" if value is None else value.shown(digits)


def _question(
    one: Question,
    answers: Sequence[Answers],
    compared: Sequence[Compared],
    scored: Sequence[Scored],
    digits: int,
) -> str:
    scores = {each.model: each.score for each in scored}
    columns = []
    for each in answers:
        score = scores.get(each.model)
        mark = "" if score is None else f" <span class='dim'>{score:.{digits}f}</span>"
        turns = _turns(each.turns.get(one.id, ()), len(one.turns))
        failed = f"<p class='warning'>{escape(each.failed[one.id])}</p>" if one.id in each.failed else ""
        columns.append(f"<div><p><b>{escape(each.model)}</b>{mark}</p>{turns}{failed}</div>")
    ruled = "".join(_verdict(each) for each in compared)
    asked = " / ".join(one.turns)
    short = asked if len(asked) <= _SUMMARY else asked[: _SUMMARY - 1].rstrip() + "…"
    return (
        f"<details><summary>{escape(str(one.id))} · {escape(one.category)} · {escape(short)} "
        f"<span class='dim'>{escape(_won(compared))}</span></summary>"
        f"{_turns(one.turns, len(one.turns))}<div class='answers'>{''.join(columns)}</div>{ruled}</details>"
    )


def _turns(texts: Sequence[str], of: int) -> str:
    """Texts one after the other, numbered where the question has more turns than one."""
    return "".join(
        (f"<p class='dim'>Turn {number}</p>" if of > 1 else "") + f"<pre>{escape(text)}</pre>"
        for number, text in enumerate(texts, 1)
    )


def _won(compared: Sequence[Compared]) -> str:
    """Who won in how many encounters, in a few words; flips with the order are told from ties."""
    found: Counter[str] = Counter()
    for one in compared:
        forth, back = one.winners
        if forth is None or back is None:
            found["no verdict"] += 1
        elif forth == back:
            found[f"→ {forth}" if forth else "tie"] += 1
        else:
            found["flips" if forth and back else "tie in one order"] += 1
    return "; ".join(name if n == 1 else f"{name} ({n})" for name, n in found.most_common())


def _verdict(one: Compared) -> str:
    won = [("no verdict" if name is None else name or "tie") for name in one.winners]
    shown = won[0] if won[0] == won[1] else f"{won[0]}; in the other order {won[1]}"
    texts = "".join(f"<pre class='dim'>{escape(text)}</pre>" for text in dict.fromkeys(one.texts) if text)
    return f"<p>{escape(one.a)} – {escape(one.b)}: <b>{escape(shown)}</b></p>{texts}"
