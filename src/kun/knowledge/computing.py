"""Questions that need a calculation over what the documents hold: a small program, run by Kun, shown with its result.

No number of the answer is written by a model. A question that asks for no calculation, or for one that no table and
no sentence of the documents found can give, is none of this module's.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from kun.errors import KunError
from kun.knowledge.computation.cells import CellCount, cell_counts
from kun.knowledge.computation.clauses import clause_answer, clauses
from kun.knowledge.computation.facts import Fact, facts, may_want_fact
from kun.knowledge.computation.keys import title_score
from kun.knowledge.computation.lookup_wording import lookup_answer, lookup_program, lookup_shown
from kun.knowledge.computation.lookups import lookups, may_look_up
from kun.knowledge.computation.matching import column_score, folded, latin_words
from kun.knowledge.computation.plans import Plan, counted_thing, plans
from kun.knowledge.computation.question import Asked, read_question
from kun.knowledge.computation.running import Outcome, run
from kun.knowledge.computation.said import Said
from kun.knowledge.computation.sheets import Computable, Sheet, sheet_of
from kun.knowledge.computation.wording import answer_of, calculation_of, cells_answer, fact_answer, fault_of
from kun.knowledge.passage import Passage

_DOCUMENTS = 5
_SEARCHED = 60
_NAMED = 2
_RARE = 3
"""Documents that may share a word of their names for it to point at one of them."""
_LONGEST_TEXT = 20_000_000
_LEAST_SCORE = 1.3
"""The least score of a plan: one value and a column of the question, or a column by name and the document's title."""
_MOST_CITED = 6
_RANK = 0.05
"""Score that a look-up loses for each document before its own."""
_AS_GOOD = 0.3
"""Look-ups within so much of the best are as good: where they differ none is given."""


@dataclass(frozen=True)
class Computed:
    """A calculated answer: `text` cites `passages` as [1], [2] …; `calculation` is its steps in words.

    `program` is what was run, as JSON. `declined`: the documents have the table, but no such column or rows.
    """

    text: str
    calculation: str
    passages: list[Passage]
    program: Mapping[str, object] = field(default_factory=dict)
    declined: bool = False


def compute(
    question: str,
    base: Computable,
    found: Sequence[Passage],
) -> Computed | None:
    """The calculated answer to `question` from the documents of `found` and those that a search of its own finds.

    None for a question that asks for no calculation, and where no table or sentence fits.
    """
    asked = read_question(question)
    calculates, looks_up = asked is not None or may_want_fact(question), may_look_up(question)
    if not calculates and not looks_up:
        return None
    sheets = sheets_for(question, base, found)
    best = _calculation(question, asked, sheets) if calculates else None
    computed = _answer(best, asked, question, base, found) if best is not None else None
    if looks_up and (computed is None or computed.declined or _is_supposed(best, asked)):
        return _looked_up(question, base, found, sheets) or (None if _counts_a_cell(best) else computed)
    return computed


def _counts_a_cell(best: Outcome | Fact | CellCount | None) -> bool:
    """True for one row that was counted though its own key names it, or a column of numbers is what is asked for."""
    if not isinstance(best, Outcome) or best.plan.kind != "count" or len(best.rows) > 1 or best.plan.distinct:
        return False
    plan = best.plan
    by_key = any(
        one.test == "is" and one.column is not None and len(one.column.distinct) == plan.table.n > 1
        for one in plan.conditions
    )
    counted = counted_thing(plan.asked.text)
    return by_key or any(
        column_score(one.name, "", counted) >= 1 for one in plan.table.of_kind("number") if counted
    )


def _is_supposed(best: Outcome | Fact | CellCount | None, asked: Asked | None) -> bool:
    """True for a calculation that may be a cell as well.

    No word asks for the sum ("how much is …"), or what is counted is the one row that fits ("how many days …").
    """
    if not isinstance(best, Outcome) or asked is None:
        return False
    one_row = best.plan.kind == "count" and len(best.rows) <= 1
    return one_row or (best.plan.kind == "sum" and "sum" not in asked.kinds)


def _calculation(
    question: str, asked: Asked | None, sheets: Sequence[Sheet]
) -> Outcome | Fact | CellCount | None:
    """The calculation that fits best; None where none does."""
    candidates: list[tuple[float, Outcome | Fact | CellCount]] = []
    for rank, sheet in enumerate(sheets):
        bonus = max(0.5 / (rank + 1), 0.3 if rank >= _DOCUMENTS else 0.0)
        candidates += [(one.score + bonus, one) for one in facts(question, asked, sheet)[:1]]
        if asked is None:
            continue
        title = title_score(asked, sheet)
        candidates += [(one.score + bonus + title, one) for one in cell_counts(asked, sheet)[:1]]
        candidates += [(plan.score + bonus + title, run(plan)) for plan in plans(asked, sheet)[:1]]
    kept = [one for one in candidates if one[0] >= _LEAST_SCORE]
    if not kept:
        return None
    return max(kept, key=lambda one: one[0])[1]


def _looked_up(
    question: str, base: Computable, found: Sequence[Passage], sheets: Sequence[Sheet]
) -> Computed | None:
    """The cell that the question asks for; None where it is not plain, or two documents differ in it."""
    said = Said(question)
    scored = [
        (one.score - _RANK * rank, one) for rank, sheet in enumerate(sheets) for one in lookups(said, sheet)
    ]
    given = [(score, one) for score, one in scored if not one.missing]
    if not given and (rules := [rule for sheet in sheets for rule in clauses(said, sheet)[:1]]):
        rule = max(rules, key=lambda one: one.score)
        passages = _cited(base, rule.sheet.source, question, found, [(rule.start, rule.end)])
        text = _citing(clause_answer(rule, said.is_chinese), passages[:1])
        return Computed(text, "", passages, {"operation": "range", "of": rule.text})
    if not given:
        missing = next((one for _, one in scored if not _stands(one.missing, base)), None)
        if missing is None or len(scored) > 1:
            return None
        return Computed(lookup_answer(missing), "", [], lookup_program(missing), declined=True)
    best = max(given, key=lambda one: one[0])
    if len({one.values for score, one in given if score >= best[0] - _AS_GOOD}) > 1:
        return None
    one = best[1]
    passages = _cited(base, one.sheet.source, question, found, one.spans)
    return Computed(
        _citing(lookup_answer(one), passages[:1]), lookup_shown(one), passages, lookup_program(one)
    )


def _stands(name: str, base: Computable) -> bool:
    best = base.search(name, 1)
    return bool(best and best[0].reasons and best[0].reasons.exact)


def sheets_for(question: str, base: Computable, found: Sequence[Passage] = ()) -> list[Sheet]:
    """The documents found, the best first; `found` is what the caller has, a wider search adds to it."""
    passages = [*found, *base.search(question, _SEARCHED)]
    sources = list(dict.fromkeys(passage.source for passage in passages))[:_DOCUMENTS]
    sources += [name for name in _named_documents(question, base) if name not in sources][:_NAMED]
    sheets = []
    for source in sources:
        try:
            stored = base.text_of(source)
        except KunError:
            continue
        if len(stored.text) <= _LONGEST_TEXT:
            sheets.append(sheet_of(stored))
    return sheets


def _named_documents(question: str, base: Computable) -> list[str]:
    """Documents whose file's name has a rare word of the question: another language's search may miss them."""
    names = [source.name for source in base.sources()]
    stems = {name: _stems(PurePath(name).stem) for name in names}
    counts = Counter(stem for own in stems.values() for stem in own)
    said = {stem for stem in _stems(question) if counts[stem] <= _RARE}
    scored = [(len(own & said), name) for name, own in stems.items() if own & said]
    return [name for _, name in sorted(scored, key=lambda one: -one[0])]


def _stems(text: str) -> set[str]:
    plain = re.sub(r"[-_/.]", " ", folded(text))
    latin = {word.stem for word in latin_words(plain) if len(word.stem) > 3 and not word.stem.isdigit()}
    return latin | {run for found in re.findall(r"[\u3400-\u9fff]{3,}", plain) for run in _runs(found)}


def _runs(text: str) -> set[str]:
    return {text[place : place + 3] for place in range(len(text) - 2)}


def _answer(
    best: Outcome | Fact | CellCount,
    asked: Asked | None,
    question: str,
    base: Computable,
    found: Sequence[Passage],
) -> Computed | None:
    from kun.text.language import language_of

    chinese = language_of(question) == "zh"
    if isinstance(best, Fact):
        passages = _cited(base, best.source, question, found, best.spans)
        text = fact_answer(best, chinese, asked.decimals if asked else None)
        return Computed(_citing(text, passages), best.shown, passages, best.program)
    if isinstance(best, CellCount):
        text, shown = cells_answer(best, chinese)
        passages = _cited(base, best.source, question, found, [best.table.spans[row] for row in best.rows])
        return Computed(
            _citing(text, passages), shown, passages, {"operation": "count cells", "word": best.word}
        )
    if best.fault in ("tie", "lookup"):
        return None
    plan: Plan = best.plan
    if best.fault:
        return Computed(fault_of(best), "", [], best.program, declined=True)
    spans = [plan.table.spans[row] for row in best.rows if row < len(plan.table.spans)]
    spans += [(one.start, one.end) for one in best.factors if one.end]
    passages = _cited(base, plan.sheet.source, question, found, spans)
    return Computed(_citing(answer_of(best), passages), calculation_of(best), passages, best.program)


def _cited(
    base: Computable, source: str, question: str, found: Sequence[Passage], spans: Sequence[tuple[int, int]]
) -> list[Passage]:
    """Passages of the document that hold rows which were calculated with, else its best ones."""
    own = [*(one for one in found if one.source == source), *base.search(question, _SEARCHED, [source])]
    unique = list({one.id: one for one in own}.values())
    placed = [one for one in unique if one.end > one.start]
    touching = [one for one in placed if any(one.start < end and start < one.end for start, end in spans)]
    return (touching or unique)[:_MOST_CITED]


def _citing(text: str, passages: Sequence[Passage]) -> str:
    marks = "".join(f"[{number}]" for number in range(1, len(passages[:3]) + 1))
    return f"{text} {marks}".strip()
