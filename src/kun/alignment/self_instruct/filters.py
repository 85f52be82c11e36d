"""Rules that decide which of the written tasks are kept, each with the reason that is counted.

Those of Self-Instruct (arXiv:2212.10560, section 2.2: ROUGE-L, keywords, lengths, repetitions, contradictions), and
those that small models make necessary: copies of the prompt, outputs that repeat themselves or decline.
"""

import re
from collections.abc import Iterable

from kun.alignment.self_instruct.tasks import Instance
from kun.text.language import is_chinese
from kun.text.rouge import cut, rouge_l

_SHORTEST, _LONGEST = 3, 150
"""Words of an instruction, or Chinese characters, below and above which it is dropped."""
_LONGEST_OUTPUT = 1500
_KEYWORDS = re.compile(
    r"\b(images?|pictures?|photos?|graphs?|charts?|diagrams?|flowcharts?|maps?|draw|sketch|videos?|audio|files?|"
    r"attach(?:ed|ment)|screenshots?|hyperlinks?)\b|图片|图像|照片|图表|画图|绘制|画出|视频|音频|录音|文件|附件|"
    r"截图|地图|流程图|链接|网址",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"(i'?m sorry|i am sorry|sorry,|as an? (ai|language model)|i (cannot|can't|am unable)|"
    r"抱歉|对不起|很遗憾|作为一个?(ai|人工智能|语言模型)|我(无法|不能|没有办法))",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"[\W_]*|[<\[(（【]\s*(your|insert|the|output|input|answer|text|none|请|输入|输出|答案|此处|填|无)[^\n]{0,60}[>\])）】]",
    re.IGNORECASE,
)
_BLANK = re.compile(
    r"\[(?:the |my )?(?:your|friend|recipient|sender|insert|company|manager|date\b|name\b(?! for)|address|phone)"
    r"[^\]\n]{0,40}\]|[\[【](?:你|您|收件|寄件|姓名|名字|日期|公司|单位|电话|地址|填|对方|朋友)[^\]】\n]{0,20}[\]】]",
    re.IGNORECASE,
)
"""A gap in a letter that somebody has yet to fill."""
_GIVEN = re.compile(
    r"\b(?:given|following|(?:this|these|those|the (?:above|below)) (?:\w+ )?(?:sentences?|texts?|paragraphs?|"
    r"messages?|passages?|letters?|poems?|stor(?:y|ies)|lists?|items?|words?|facts?|options?|numbers?))\b|"
    r"给出的|以下|下面|下列|这(?:些|个|两个|几个)?(?:句子?|段|首|封|篇|则|几样|两样|几种|两种|文字|消息)",
    re.IGNORECASE,
)
"""What an instruction says of an input; where it holds one itself, that follows a colon or stands in quotes."""
_HELD = re.compile(r"[:：]\s*\S|[\"“‘「《].+[\"”’」》]", re.DOTALL)
_CHOICE = re.compile(
    r"\b(or|whether|classify|categori[sz]e|category|label)\b|^(is|are|was|were|do|does|did|can|has|have|should)\b|"
    r"还是|是否|是不是|能不能|对不对|属于|归类|分类|类别|哪一?[类种]|吗[？?]|或",
    re.IGNORECASE,
)
_LONGEST_LABEL = 6
"""Words of a label, or Chinese characters."""
_FEWEST_ECHOED = 4
_PIECE = 4
_FEWEST_DISTINCT = 0.4


class Similar:
    """Instructions so far: a new one is too similar where its ROUGE-L with any is at least `most`."""

    def __init__(self, known: Iterable[str], most: float = 0.7) -> None:
        self.most = most
        self._known: list[list[str]] = []
        for one in known:
            self.add(one)

    def add(self, instruction: str) -> None:
        """Compare later ones with this one too."""
        self._known.append(_units(instruction))

    def nearest(self, instruction: str) -> float:
        """The highest ROUGE-L with any, or the first that is at least `most`."""
        new, best = _units(instruction), 0.0
        for other in self._known:
            together = len(new) + len(other)
            # the longest that two lists can share is the shorter of them
            if not together or 2 * min(len(new), len(other)) / together <= best:
                continue
            best = max(best, rouge_l(new, other))
            if best >= self.most:
                return best
        return best


def fault_of_instruction(instruction: str, language: str, prompt: str, similar: Similar) -> str | None:
    """Why an instruction is dropped, in a few words; None where it is kept."""
    units = _units(instruction)
    if len(units) < _SHORTEST:
        return "too short"
    if len(units) > _LONGEST:
        return "too long"
    if not instruction[0].isalnum() and instruction[0] not in "\"'“‘《「(（<":
        return "begins with punctuation"
    if _KEYWORDS.search(instruction):
        return "needs more than text"
    if is_chinese(instruction) != (language == "zh"):
        return "another language"
    if _flat(instruction) in _flat(prompt):
        return "copies the prompt"
    if similar.nearest(instruction) >= similar.most:
        return "too similar"
    return None


def names_labels(instruction: str) -> bool:
    """Whether an instruction says what to choose from, or asks for yes or no: small models call too much a choice."""
    return _CHOICE.search(instruction) is not None


def fault_of_instance(instruction: str, one: Instance, *, is_label: bool = False) -> str | None:
    """Why an input with its output, which may be a label, is dropped; None where it is kept."""
    if is_label and len(_units(one.output)) > _LONGEST_LABEL:
        return "label too long"
    if is_label and not one.input:
        return "label without an input"
    if _PLACEHOLDER.fullmatch(one.output.strip()):
        return "no output"
    if len(one.output) > _LONGEST_OUTPUT * (1 if is_chinese(one.output) else 4):
        return "output too long"
    if not is_label and _echoes(one.output, one.input, instruction):
        return "output repeats the input"
    if not one.input and _GIVEN.search(instruction) and not _HELD.search(instruction):
        return "input is missing"
    if _DECLINES.match(one.output.strip()):
        return "output declines"
    if _BLANK.search(one.output):
        return "output has blanks"
    if one.input and _PLACEHOLDER.fullmatch(one.input.strip()):
        return "input is a placeholder"
    if _KEYWORDS.search(one.input) and re.search(r"https?://|\.(png|jpe?g|pdf|mp[34]|docx?)\b", one.input):
        return "needs more than text"
    if _repeats(one.output):
        return "output repeats itself"
    return None


def without_contradictions(instances: list[Instance]) -> tuple[list[Instance], int]:
    """Instances without those whose input has two outputs, and each once; the number that was dropped."""
    outputs: dict[str, set[str]] = {}
    for one in instances:
        outputs.setdefault(_flat(one.input), set()).add(_flat(one.output))
    kept = {_flat(one.input): one for one in reversed(instances) if len(outputs[_flat(one.input)]) == 1}
    found = list(reversed(kept.values()))
    return found, len(instances) - len(found)


def _echoes(output: str, given: str, instruction: str) -> bool:
    """Whether an output says no more than was there: the input itself, or several words of the instruction."""
    said = _flat(output)
    return said == _flat(given) or (len(_units(output)) >= _FEWEST_ECHOED and said in _flat(instruction))


def _repeats(text: str) -> bool:
    """Whether a long text says the same few pieces of four words over and over."""
    units = _units(text)
    pieces = [tuple(units[place : place + _PIECE]) for place in range(len(units) - _PIECE + 1)]
    return len(pieces) >= 10 * _PIECE and len(set(pieces)) < _FEWEST_DISTINCT * len(pieces)


def _units(text: str) -> list[str]:
    """Words, of Chinese the characters."""
    return cut(text, "characters")


def _flat(text: str) -> str:
    return " ".join(text.split()).casefold()
