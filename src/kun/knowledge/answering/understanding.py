"""The kind of a message: talk, a request about the last answer, or a question, made to stand alone."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from kun.knowledge.answering.antecedents import with_antecedent
from kun.knowledge.answering.identifiers import identifiers
from kun.knowledge.answering.phrases import Phrases
from kun.knowledge.answering.policy import Policy
from kun.text.words import STOP_WORDS, words

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

ChatTurn = dict[str, str]
Kind = Literal["question", "greeting", "thanks", "about_last"]

_GREETING = re.compile(
    r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings"
    r"|你好啊?|您好|嗨|哈喽|早上好|早安|下午好|晚上好|大家好|在吗|在不在)"
    r"(?:[ ,，]*(?:there|kun|all|everyone|鲲|呀|啊))*",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"(?:ok(?:ay)?[ ,.]*|好的?[，, ]*|great[ ,.!]*)?(?:thanks?(?: you)?(?: (?:a lot|so much|very much))?|thx|cheers"
    r"|多?谢谢?(?:你|您|了|啦)*|感谢(?:你|您)?|"
    r"辛苦了|bye(?:[ -]?bye)?|goodbye|see you|再见|拜拜|ok(?:ay)?|got it|i see|great|cool|nice|perfect|well done|好的?"
    r"|明白了?|知道了|"
    r"懂了|了解了?|收到|不错|很好)(?:[ ,，]*(?:kun|鲲|啦|呀|啊))?",
    re.IGNORECASE,
)
_LAST = (
    r"(?:that|this|it|your (?:last )?answer|the (?:last |previous |above )?answer|what you (?:just )?said|上面"
    r"|上文|以上|刚才|这段话?|这个回答|上一个?回答|你的回答|它|答案)"
)
_ABOUT_LAST = re.compile(
    rf"(?:please |can you |could you |now |请|请你|麻烦|帮我|能不能|可以)*(?:把)?(?:{_LAST}的?(?:内容|回答|话)?)?\s*"
    r"(?:"
    r"(?:translate|rephrase|reword|summari[sz]e|shorten|simplify|repeat|rewrite)(?: (?:that|this|it"
    r"|your (?:last )?answer|the (?:last |above )?answer))?"
    r"(?: (?:in|into|to) \w+(?: \w+)?)?(?: please| again)?"
    r"|(?:say|put|write|give|explain) (?:that|this|it)(?: (?:again|more|in|to me|as|for)\b.{0,30})?"
    r"|(?:make it |a bit |much )?(?:shorter|briefer|simpler|longer|more briefly)(?: please)?"
    r"|in (?:english|chinese|french|german|one sentence|short|other words|a nutshell)(?: please)?"
    r"|(?:(?:再)?(?:翻译|译)(?:成|为|一下)?[^，。？]{0,8}|(?:用|换成)(?:英文|英语|中文|汉语|一句话|自己的话|简单的话)[^，。？]{0,8}|"
    r"(?:再|更)?(?:说得|写得|讲得)?(?:简短|简洁|简单|短|精简|通俗|详细)(?:一点|一些|点|些)(?:说|讲)?|概括一下|总结一下|缩短(?:一下|一点)?|再说一遍|重复一遍|换个说法)"
    r")(?:[，,]?(?:好吗|可以吗|行吗|吧|谢谢))?",
    re.IGNORECASE,
)
_LEANS = re.compile(
    r"\b(?:it|its|he|him|his|she|her|hers|they|them|their|theirs|that one|this one|those|these|the (?:former"
    r"|latter|same))\b"
    r"|^\s*(?:and|but|or|so|then|what about|how about)\b"
    r"|^\s*(?:why|how|when|where|who|how much|how many|how long|how so|why not|which one|what else|since when"
    r"|until when)\s*+[?？]*+\s*+$"
    r"|[他她它]们?|(?:^|[，,])(?:那|这)(?!里|种情况)|这个|那个|这种|那种|这些|那些|该|其中|其(?:原因|价格|次)|前者|后者|此外|呢\s*+[?？]?\s*+$"
    r"|^\s*(?:为什么|怎么办|怎么办理|怎么做|多少钱|多久|多大|多重|多长|什么时候|在哪里?|是谁|谁|哪天|几天|还有吗|还有呢|原因是什么|怎么申请|如何办理|有什么要求)\s*+[?？]*+\s*+$",
    re.IGNORECASE,
)
# each repetition keeps what it took (`++`): a message of "那那那…" would else be taken apart in every way there is
_FOR_INSTEAD = re.compile(
    r"^\s*+(?:(?:and|but|so|then|what about|how about|for|in|on|at|by|with|那么?|换成|如果是)[ ,，]*+)++"
    r"(?P<thing>.{1,40}?)\s*+(?:呢)?[?？。.]*+\s*+$"
    r"|^\s*+(?P<thing2>.{1,30}?)\s*+呢[?？]?\s*+$",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"^(?:it|they|he|she|this|that|those|these|his|her|their|its|他|她|它|这个?|那个?|他们|它们)",
    re.IGNORECASE,
)
_CAPITALIZED = re.compile(r"(?<=[a-z,] )[A-Z][\w'’-]*(?: [A-Z][\w'’-]*)*(?<!'s)")
_NAMES = frozenset(("ns", "nr", "nt", "nz", "t", "nrt"))
_LONGEST_TALK = 60
_LONGEST_TURN = 400


def kind_of(message: str) -> Kind:
    """The kind of a message; what is neither greeting, thanks nor about the last answer is a question."""
    text = message.strip().rstrip("!！.。~～?？ ")
    if len(text) > _LONGEST_TALK:
        return "question"
    if _GREETING.fullmatch(text):
        return "greeting"
    if _THANKS.fullmatch(text):
        return "thanks"
    if _ABOUT_LAST.fullmatch(text):
        return "about_last"
    return "question"


def leans(question: str, history: Sequence[ChatTurn]) -> bool:
    """True where a question cannot be understood without the conversation."""
    return any(turn.get("role") == "user" for turn in history) and bool(_LEANS.search(question))


def completed(
    question: str, history: Sequence[ChatTurn], lm: "LanguageModel", told: Phrases, policy: Policy
) -> str:
    """A question that leans on the conversation, made to stand alone; any other as it is.

    "And X?" puts X in the place of the like in the question before, which needs no model; else the model rewrites.
    """
    if not leans(question, history):
        return question
    asked = [
        turn["content"]
        for turn in history
        if turn.get("role") == "user" and kind_of(turn["content"]) == "question"
    ]
    if not asked:
        return question
    swapped = _swapped(question, asked[-1])
    if swapped:
        return swapped
    last = next((turn["content"] for turn in reversed(history) if turn.get("role") == "assistant"), "")
    if named := with_antecedent(question, asked[-1], last):
        return named
    turns = "\n".join(
        f"{turn['role']}: {turn['content'][:_LONGEST_TURN]}" for turn in history[-policy.history_turns :]
    )
    request = told.follow_up.format(history=turns, question=question)
    written = str(lm.generate([{"role": "user", "content": request}], max_tokens=64, temperature=0))
    rewritten = written.strip().split("\n")[0].strip().strip('"“”')
    # a rewriting that lost the question's own words, or grew into an answer, is worse than both questions together
    return rewritten if _is_sound(rewritten, question, history, asked[-1]) else f"{asked[-1]} {question}"


def _swapped(question: str, before: str) -> str:
    """The question before with the thing that "and X?" names in the place of its like; "" where that is not plain."""
    found = _FOR_INSTEAD.match(question)
    thing = (found["thing"] or found["thing2"] or "").strip(" ，,") if found else ""
    if (
        not thing
        or _PRONOUN.match(thing)
        or re.search(
            r"[，,；;：:]|什么|怎么|多少|\bwhat\b|\bhow\b|\bwhy\b|\bwho\b|\bwhen\b", thing, re.IGNORECASE
        )
    ):
        return ""
    old, new = (
        identifiers(before),
        identifiers(thing) or ([thing] if re.fullmatch(r"[\w./-]*\d[\w./-]*", thing) else []),
    )
    old = old or re.findall(r"(?<![\w.-])\d{3,}(?![\w.-])", before)
    if len(old) == 1 and new:
        return before.replace(old[0], new[0])
    like = [part for part in _parts(before) if _is_like(part, thing)]
    if not like and (tag := _tag(thing)):
        like = [part for part in _parts(before) if part != thing and _tag(part) == tag]
    return before.replace(like[0], thing) if len(like) == 1 else ""


def _parts(text: str) -> list[str]:
    """The words of a text, names of the Latin script with their apostrophes."""
    import rjieba

    years = re.findall(r"\b(?:19|20)\d\d\b", text)
    return list(
        dict.fromkeys(
            [*_CAPITALIZED.findall(text), *years, *(part for part in rjieba.cut(text) if not part.isascii())]
        )
    )


def _tag(thing: str) -> str:
    """The kind of name that a word is: a place, a person, a time …; "" where it is no name."""
    if re.fullmatch(r"[A-Z][\w'’-]*(?: [A-Z][\w'’-]*)*", thing):
        return "name"
    if thing.isascii():
        return ""
    import rjieba

    tags = [str(tag) for _, tag in rjieba.tag(thing)]
    return tags[0] if len(tags) == 1 and tags[0] in _NAMES else ""


def _is_like(part: str, thing: str) -> bool:
    """Two words of the same kind: as long, with the same last character (旺季, 淡季), or two years."""
    if re.fullmatch(r"(?:19|20)\d\d", thing):
        return bool(re.fullmatch(r"(?:19|20)\d\d", part))
    is_han = bool(re.fullmatch(r"[\u4e00-\u9fff]{2,4}", thing))
    return is_han and part != thing and len(part) == len(thing) and part[-1] == thing[-1]


def _is_sound(rewritten: str, question: str, history: Sequence[ChatTurn], before: str) -> bool:
    said = set(words(rewritten))
    own = {word for word in words(question) if word not in STOP_WORDS and not _LEANS.fullmatch(word)}
    turns = " ".join(turn["content"][:_LONGEST_TURN] for turn in history)
    borrowed = {word for word in words(turns) if word not in STOP_WORDS} - own
    fits = len(rewritten) <= len(question) + len(before) + 60
    return bool(rewritten) and fits and own <= said and bool(borrowed & said) and not _LEANS.search(rewritten)
