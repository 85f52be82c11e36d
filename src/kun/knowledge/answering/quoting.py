"""The last resort: what the documents say, word for word, in their order, whole lists and corrections included."""

import re
from collections.abc import Iterator, Sequence

from kun.knowledge.answering.evidence import Evidence
from kun.knowledge.answering.policy import Policy
from kun.knowledge.answering.units import Unit
from kun.text.words import words

_WANTS_LIST = re.compile(
    r"\b(?:steps?|list|which \w+s\b|what are|parts|stages|kinds|types|differ\w*|compare\w*)|步骤|哪几|哪些|几步|步|流程"
    r"|区别|不同|比较|思路",
    re.IGNORECASE,
)


def quotes(
    question: str, evidence: Sequence[Evidence], units: Sequence[Unit], policy: Policy
) -> Iterator[tuple[str, int]]:
    """The quoted texts and the number of the passage (from 0) of each, in the order of the documents."""
    chosen: dict[int, Unit] = {}
    room = policy.quoted_words
    numbers = {id(unit): number for number, unit in enumerate(units)}
    for one in evidence[: policy.quotes]:
        group = (
            _whole(numbers[id(one.unit)], units)
            if one is evidence[0] and _WANTS_LIST.search(question)
            else [numbers[id(one.unit)]]
        )
        size = sum(len(words(units[number].text)) for number in group if number not in chosen)
        if size > room:
            continue
        chosen |= {number: units[number] for number in group}
        room -= size
    if not chosen and evidence:
        chosen[numbers[id(evidence[0].unit)]] = evidence[0].unit
    for number in sorted(chosen):
        yield " ".join(chosen[number].text.split()), chosen[number].place


def _whole(number: int, units: Sequence[Unit]) -> list[int]:
    """The whole list that a unit is an item of, with what leads it; the unit alone where it is none."""
    unit = units[number]
    if unit.text.rstrip().endswith((":", "：")) and number + 1 < len(units) and units[number + 1].is_item:
        number += 1
        unit = units[number]
    if not unit.is_item:
        return [number]

    def goes_on(other: int) -> bool:
        return (
            0 <= other < len(units)
            and units[other].is_item
            and units[other].place == unit.place
            and units[other].head == unit.head
        )

    first = last = number
    while goes_on(first - 1):
        first -= 1
    while goes_on(last + 1):
        last += 1
    lead = first - 1
    has_lead = (
        lead >= 0 and units[lead].place == unit.place and units[lead].text.rstrip().endswith((":", "："))
    )
    return list(range(lead if has_lead else first, last + 1))
