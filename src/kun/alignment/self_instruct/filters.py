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


def fault_of_instance(instruction: str, one: Instance) -> str | None:
    """Why an input with its output is dropped; None where it is kept."""
    if _PLACEHOLDER.fullmatch(one.output.strip()):
        return "no output"
    if len(one.output) > _LONGEST_OUTPUT * (1 if is_chinese(one.output) else 4):
        return "output too long"
    if _flat(one.output) in (_flat(one.input), _flat(instruction)):
        return "output repeats the input"
    if _DECLINES.match(one.output.strip()):
        return "output declines"
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
