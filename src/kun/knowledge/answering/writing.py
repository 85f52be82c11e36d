"""From a model's sentences to an answer: each is checked, cited and given; what fails is written again or left out."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kun.knowledge.answering.agreeing import agreeing, whole_cell, whole_statement
from kun.knowledge.answering.asking import asking
from kun.knowledge.answering.checking import UNCARRIED, Checker, Verdict, is_negated
from kun.knowledge.answering.phrases import Phrases
from kun.knowledge.answering.policy import Policy
from kun.text.fold import fold
from kun.text.language import language_of
from kun.text.sentences import sentences
from kun.text.words import words

if TYPE_CHECKING:
    from kun.generation.results import Generation

_MARKS = ".!?…。！？；"
_BARE_CITATION = re.compile(
    r"\s*[\[［【]\s*(?:文档|Document|Passage|段落)?\s*\d+(?:\s*[,，、]\s*\d+)*\s*[\]］】]", re.IGNORECASE
)
_PARTS = re.compile(r"(?=[；;])[；;]\s*")
_ONLY_YES_NO = re.compile(
    r"\s*(?:yes|no|是的?|不是的?|对的?|不对|不会的?|不能|不可以|不行|不用|不需要|不|否|可以|能|会|没有)\s*[。.!！]?\s*",
    re.IGNORECASE,
)
_MARKER = re.compile(r"(?:\A|\n)\s*(?:[-*•]|\d{1,2}[.)、])\s*")
_LEAD_IN = re.compile(
    r"^\s*(?:答案?[:：]|Answer:|根据(?:以上|上述|提供的|给出的)?(?:文档|资料|内容|信息)[，,]?\s*"
    r"|(?:根据)?文[档件]\s*(?:里|中)?(?:明确|清楚|也)?"
    r"(?:提到|说明|指出|写道|写着|规定|表明|说)(?:的是)?[，,：:]?\s*"
    r"|The documents? (?:explain|say|state|mention)s? that\s+"
    r"|根据文档[^，。,]{0,80}[，,]\s*"
    r"|(?:According to|Based on|From) (?:the )?(?:given |provided )?(?:documents?|passages?)"
    r"(?:(?:,| and) (?:documents?|passages?))*"
    r"(?: and the (?:given |provided )?(?:documents?|passages?))?,?\s*"
    r"|(?:The|These) sentences of the documents [^:.]{0,30}:\s*"
    r"|In (?:the )?documents?,\s*)",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"(?:文档|文件|资料|文中|段落|材料)[^。！？\n]{0,12}(?:没有|未|并未|不)(?:明确)?(?:提|说明|找到|给出|列|记载|包含|涉及|答案)|没有(?:找到|提到|提及|相关)"
    r"|无法(?:确定|回答|得知)"
    r"|\b(?:documents?|passages?|texts?)\b[^.\n]{0,30}\b(?:do|does|did) ?(?:not|n['’]t)\b (?:say|mention|contain"
    r"|provide|specify|state|give|include|answer)"
    r"|\b(?:is|are|was|were) not (?:mentioned|stated|specified|provided|given|found) in\b|\bno (?:information"
    r"|mention)\b|\bcannot (?:be )?(?:determin|answer|find)",
    re.IGNORECASE,
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_OF_FIRST = ("plain", "parts", "yes_no")
"""Forms of questions whose first sentence answers them: an explanation may come to it later."""
_FEW_WORDS = 4
_SOME_WORDS = 24
"""Words up to which a sentence of one script is not taken for another language of it: its language is a guess."""
_OF_OWN_SCRIPT = frozenset(("zh", "ja", "ko", "ru", "ar", "th", "hi"))


def without_citations(text: str) -> str:
    """`text` without the numbers in brackets that the model wrote."""
    return _BARE_CITATION.sub("", text)


def cited(sentence: str, place: int) -> str:
    """`sentence` with the number of the passage (from 0) before its final mark."""
    body = sentence.rstrip()
    space = sentence[len(body) :]
    mark = body[-1] if body and body[-1] in ".!?。！？；" else ""
    return f"{body[: len(body) - len(mark)].rstrip()} [{place + 1}]{mark}{space}"


def declines(sentence: str, told: Phrases, question: str = "") -> bool:
    """True where a sentence says that the documents do not say, unless its question is about just that."""
    if fold(sentence).startswith(fold(told.nothing).rstrip(".。")):
        return True
    return bool(_DECLINES.search(sentence)) and not _DECLINES.search(question)


class Writer:
    """Gives the sentences of a generation that a passage carries, cited; counts what came of it."""

    def __init__(
        self,
        checker: Checker,
        told: Phrases,
        policy: Policy,
        render: Callable[[str], str] | None = None,
    ) -> None:
        """`told` are the phrases of the language that the model writes in; `render` puts a sentence into another."""
        self._checker, self.told, self._policy = checker, told, policy
        self._render = render or (lambda sentence: sentence)
        self._form = asking(checker.question).form
        self._stated: set[str] = set()
        self.given: list[str] = []
        self.declined = False
        self.faults: list[str] = []

    def write(self, generation: "Generation", skipping: bool) -> Iterator[str]:
        """The carried sentences of `generation`; without `skipping` it ends where the first one says something wrong.

        A bare yes or no is given with the sentence after it, by which it is checked.
        """
        held, running = "", 0
        for sentence in whole_sentences(generation):
            answered = held
            plain = held + without_citations(sentence)
            if _ONLY_YES_NO.fullmatch(plain):
                held = plain
                continue
            held = ""
            if not words(plain):  # marks alone, where a sentence names them
                continue
            if not self.given:
                plain = answered + _LEAD_IN.sub("", plain.removeprefix(answered))
                plain = plain[:1].upper() + plain[1:] if self.told.language == "en" else plain
            if declines(plain, self.told, self._checker.question):
                self.declined = not self.given
                break
            if not self._is_in_language(plain):
                self.faults.append("another language")
                break
            if fold(plain) in self.given:
                break
            plain, verdict = self._carried(plain)
            if not verdict.holds:
                self.faults.append(verdict.fault)
                ends = verdict.fault != UNCARRIED or self._form == "yes_no"
                if ends and not self.given and not skipping:
                    break
                continue
            plain = self._whole(plain, verdict)
            if not plain:
                continue
            self.given.append(fold(plain))
            yield cited(self._render(plain), verdict.place)
            running += not is_list_item(plain)
            if running >= self._policy.answer_sentences:
                break
        generation.cancel()

    def _whole(self, sentence: str, verdict: Verdict) -> str:
        """A carried sentence whose yes or no fits it, with all values of a cell of which it took one."""
        question = self._checker.question
        if self._form == "yes_no" and not self.given:
            sentence = agreeing(sentence, question)
        if verdict.unit and (
            self._form == "comparison" or (self._form == "yes_no" and is_negated(sentence) and not self.given)
        ):
            whole = whole_statement(sentence, verdict.unit)
            if whole != sentence and fold(verdict.unit.claimed) in self._stated:
                return ""
            self._stated.add(fold(verdict.unit.claimed))
            sentence = whole
        return whole_cell(sentence, verdict.unit, question) if verdict.unit else sentence

    def _carried(self, sentence: str) -> tuple[str, Verdict]:
        """A sentence that a passage carries, or its first parts between semicolons that one does."""
        verdict = self._checker.check(sentence)
        if (
            verdict.holds
            and not self.given
            and self._form in _OF_FIRST
            and self._checker.is_off(sentence, verdict)
        ):
            return sentence, Verdict(fault="it answers another question")
        parts = _PARTS.split(sentence.rstrip())
        while not verdict.holds and len(parts) > 1:
            parts.pop()
            shorter = "".join(parts)
            part = self._checker.check(shorter)
            if part.holds:
                return f"{shorter}{'。' if self.told.language == 'zh' else '.'}", part
        return sentence, verdict

    def _is_in_language(self, sentence: str) -> bool:
        """A few words, such as a name, are at home in any language; languages of one script are hard to tell apart."""
        language, size = language_of(sentence), len(words(sentence))
        if language in (self.told.language, "und") or size <= _FEW_WORDS:
            return True
        if self.told.language == "zh" and language == "en" and _HAN.search(sentence):
            return True  # names and units of the Latin script around a few Chinese words: Tern 110 重 131 kg
        return size <= _SOME_WORDS and not {language, self.told.language} & _OF_OWN_SCRIPT


def is_list_item(sentence: str) -> bool:
    return bool(_MARKER.match(sentence))


def whole_sentences(generation: "Generation") -> Iterator[str]:
    """The sentences as they are finished, what ends in a colon with what follows.

    One that was cut off is given only where there is no other.
    """
    held, finish = "", None
    any_whole = False
    for piece in generation:
        held += piece.text
        finish = piece.finish_reason
        start = 0
        for _, end in sentences(held)[:-1]:
            if not held[start:end].rstrip().endswith((":", "：")):
                any_whole = True
                yield held[start:end]
                start = end
        held = held[start:]
    if held.strip() and finish == "length" and held.rstrip()[-1] not in _MARKS:
        if not any_whole:
            yield f"{held.rstrip()} …"
    elif held.strip():
        yield held
