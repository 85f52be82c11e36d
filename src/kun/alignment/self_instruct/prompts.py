"""Prompts that ask for tasks, in English and Chinese, and the tasks that stand in what a model writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from kun.alignment.self_instruct.tasks import Instance, Task
from kun.models.writers import ChatMessages

NO_INPUT = {"en": "<none>", "zh": "<无>"}
_NONE = re.compile(r"<?\s*(none|no input|n/?a|empty|无|没有|不需要|无需输入)\s*>?[.。]?", re.IGNORECASE)
_MARKS = {
    "instruction": r"instruction|task|指令|任务",
    "input": r"input|输入",
    "output": r"output|输出",
    "label": r"label|class|标签|类别",
}
_FIELD = re.compile(
    r"^[ \t#*\d.、)]*(?P<name>" + "|".join(_MARKS.values()) + r")\s*(?:\d+)?\**\s*[:：]\**[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_TASK_HEAD = re.compile(
    r"^[ \t]*#{2,}[ \t]*(?:task|任务)?[ \t]*\d*[ \t]*[.:：]?[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_NUMBERED = re.compile(
    r"^[ \t]*(?:task[ \t]*|任务[ \t]*)?(\d{1,3})[ \t]*[.、:：)][ \t]*(.+)$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Words:
    """The texts of the prompts in one language, and the names of the fields in them."""

    assistant: str
    whole: str
    whole_more: str
    instructions: str
    instructions_more: str
    topics: tuple[str, ...]
    forms: tuple[str, ...]
    wish: str
    sorting: str
    yes: str
    no: str
    inputs_first: str
    outputs_first: str
    head: str
    instruction: str
    input: str
    output: str
    label: str
    colon: str


def _wishes(chance: Random, first: int, count: int, words: Words) -> str:
    """A topic and a form for each task that is asked for: a small model left to itself repeats."""
    return "\n".join(
        words.wish.format(number=number, topic=chance.choice(words.topics), form=chance.choice(words.forms))
        for number in range(first, first + count)
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


WORDS = {
    "en": Words(
        assistant="You make up tasks for an assistant that reads and writes text and does nothing else. Tasks "
        "differ in topic, verb, length and form: questions, requests, rewriting, sorting, reasoning, planning, small "
        "programs. None needs a picture, a sound, a link or a file.",
        whole="Write tasks 1 to {last} in full. An instruction is one or two sentences. Give an input where the task "
        "needs one, made up in full, of at most 100 words, and <none> where it does not. The output does what the "
        "instruction asks, completely and correctly.",
        whole_more="Write tasks {first} to {last} in exactly this form, unlike those and each other:\n{wishes}",
        instructions="Write {count} instructions, a line each, without solving them.",
        instructions_more="Write {count} others, unlike those and each other, a line each, without solving "
        "them:\n{wishes}",
        topics=_listed(
            "cooking, a letter to an office, animals, school, money, sports, an old tale, weather, a trip by train, "
            "health, grammar, a quarrel between neighbours, numbers, a small program, plants, history, music, "
            "a job interview, machines, law, shopping, the sea, poems, the way to a place, a meeting, chemistry, "
            "jokes, repairs at home, children, the night sky, clothes, elections, dates, proverbs, puzzles"
        ),
        forms=_listed(
            "rewrite a given sentence, a question about a given text, sort a given message into labels that you name, "
            "a yes-or-no question about a given sentence, a question why, explain a word, a small calculation, "
            "write a short letter, make a plan, tell a story, write a few lines of code, compare two given things, "
            "turn a given text into another form, choose the best of some given things, correct a given sentence, "
            "give advice, put given facts in order, find what is missing in a given text"
        ),
        wish="{number}. {topic}: {form}",
        sorting="Is the task a classification, that is, is its output always one of a few fixed labels, such as yes or "
        "no, or a category from a short list? Answer Yes or No.",
        yes="Yes",
        no="No",
        inputs_first="You are given a task. Make up an example of it: first a complete input that it works on (<none> "
        "where the task needs none), then the output, which does what the task asks, completely and correctly.",
        outputs_first="You are given a task whose output is a label. Make up examples of it: first a label, then an "
        "input to which this label belongs. Let every label occur once.",
        head="### Task {number}",
        instruction="Instruction",
        input="Input",
        output="Output",
        label="Label",
        colon=": ",
    ),
    "zh": Words(
        assistant="你为一个只会读写文字的助手设计任务。话题、动词、长短和形式都要有变化：提问、请求、改写、归类、推理、"
        "计划、小程序都可以。任何任务都不能依赖图片、声音、链接或文件。",
        whole="请完整写出第 1 到第 {last} 个任务。指令一两句话即可。任务需要输入时，请编出完整的输入，不超过 150 字；"
        "不需要时写 <无>。输出要完整、正确地做到指令所要求的。",
        whole_more="请严格按照这个格式写出第 {first} 到第 {last} 个任务，与前面的和彼此之间都不相似：\n{wishes}",
        instructions="请写 {count} 条指令，每条一行，不用给出答案。",
        instructions_more="请再写 {count} 条，与前面的和彼此之间都不相似，每条一行，不用给出答案：\n{wishes}",
        topics=_listed(
            "做饭, 给单位写信, 动物, 学校, 花钱, 体育, 民间故事, 天气, 坐火车出行, 健康, 语法, 邻里纠纷, 数字, 小程序, "
            "植物, 历史, 音乐, 求职面试, 机器, 法律, 购物, 大海, 诗词, 问路, 开会, 化学, 笑话, 家里修东西, 孩子, 星空, "
            "衣服, 节日, 日期和时间, 成语, 逻辑题"
        ),
        forms=_listed(
            "改写给出的句子, 就给出的一段话提问, 把给出的消息归到你列出的类别里, 对给出的句子问是或否, 问为什么, "
            "解释词语, 小计算, 写一封短信, 定计划, 讲故事, 写几行代码, 比较给出的两样东西, 把给出的文字换一种形式, "
            "从给出的几样里选最好的, 改正给出的句子, 提建议, 给事情排顺序, 找出给出的文字里缺了什么"
        ),
        wish="{number}. {topic}：{form}",
        sorting="这个任务是不是分类，也就是说，输出总是少数几个固定标签之一，例如“是”或“否”，或者几个类别里的一个？"
        "请回答“是”或“否”。",
        yes="是",
        no="否",
        inputs_first="给你一个任务，请编一个例子：先写任务所针对的完整输入（不需要输入就写 <无>），"
        "再写输出，完整、正确地做到任务所要求的。",
        outputs_first="给你一个任务，它的输出是一个标签。请编几个例子：先写标签，再写属于这个标签的输入，每个标签出现一次。",
        head="### 任务 {number}",
        instruction="指令",
        input="输入",
        output="输出",
        label="标签",
        colon="：",
    ),
}


def whole_tasks(tasks: Sequence[Task], more: int, language: str, chance: Random) -> ChatMessages:
    """Alpaca's single step: some tasks in full as the model's own earlier answer, and so many `more` to be written."""
    words = WORDS[language]
    shown = [_whole(number, task, language) for number, task in enumerate(tasks, 1)]
    first = len(tasks) + 1
    wanted = words.whole_more.format(
        first=first, last=len(tasks) + more, wishes=_wishes(chance, first, more, words)
    )
    return _chat(words.assistant, (words.whole.format(last=len(tasks)), "\n\n".join(shown)), last=wanted)


def instructions(known: Sequence[str], more: int, language: str, chance: Random) -> ChatMessages:
    """Self-Instruct's first step: some instructions as the model's own earlier answer, and so many `more`."""
    words = WORDS[language]
    listed = "\n".join(f"{number}. {one}" for number, one in enumerate(known, 1))
    wanted = words.instructions_more.format(count=more, wishes=_wishes(chance, 1, more, words))
    return _chat(words.assistant, (words.instructions.format(count=len(known)), listed), last=wanted)


def sorting(instruction: str, shown: Sequence[Task], language: str) -> ChatMessages:
    """Self-Instruct's second step: whether a task is a classification, after some of which that is known."""
    words = WORDS[language]
    known = [(task.instruction, words.yes if task.is_classification else words.no) for task in shown]
    return _chat(words.sorting, *known, last=instruction)


def instances(instruction: str, shown: Sequence[Task], language: str, *, outputs_first: bool) -> ChatMessages:
    """Self-Instruct's third step: instances of a task, of a classification with the output before its input."""
    words = WORDS[language]
    known = []
    for task in shown:
        lines = []
        for one in task.instances:
            given = one.input or NO_INPUT[language]
            fields = [(words.label, one.output), (words.input, given)]
            fields = fields if outputs_first else [(words.input, given), (words.output, one.output)]
            lines += [f"{name}{words.colon}{text}" for name, text in fields]
        known.append((_named(task.instruction, words), "\n".join(lines)))
    order = words.outputs_first if outputs_first else words.inputs_first
    return _chat(order, *known, last=_named(instruction, words))


def text_of(messages: ChatMessages) -> str:
    """All that a prompt says."""
    return "\n".join(message["content"] for message in messages)


def _named(instruction: str, words: Words) -> str:
    return f"{words.instruction}{words.colon}{instruction}"


def _chat(order: str, *turns: tuple[str, str], last: str) -> ChatMessages:
    """A conversation that shows by its earlier turns in which form to answer: small models keep to that best."""
    before = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return ({"role": "system", "content": order}, *before, {"role": "user", "content": last})


def _whole(number: int, task: Task, language: str) -> str:
    words, one = WORDS[language], task.instances[0]
    return "\n".join(
        [
            words.head.format(number=number),
            f"{words.instruction}{words.colon}{task.instruction}",
            f"{words.input}{words.colon}{one.input or NO_INPUT[language]}",
            f"{words.output}{words.colon}{one.output}",
        ]
    )


def tasks_in(text: str) -> list[Task]:
    """Tasks in full; one that lacks a field has no instance. An output may speak of inputs and outputs of its own."""
    found: list[Task] = []
    for block in _blocks(text):
        marks: dict[str, re.Match[str]] = {}
        for mark in _FIELD.finditer(block):
            marks.setdefault(_name(mark["name"]), mark)
        fields = dict(_between(block, list(marks.values())))
        if "instruction" in fields:
            output = fields.get("output", "")
            instance = (Instance(_input(fields.get("input", "")), output),) if output else ()
            found.append(Task(fields["instruction"], instance))
    return found


def instructions_in(text: str) -> list[str]:
    """The lines of a numbered list."""
    return [found[2].strip() for found in _NUMBERED.finditer(text)]


def answer_in(text: str, language: str) -> bool | None:
    """Yes or no, whichever comes first; None for neither."""
    words, found = WORDS[language], text.casefold().replace("不是", WORDS["zh"].no)
    edge = r"\b" if language == "en" else ""
    known = {
        answer: place.start()
        for answer, word in ((True, words.yes), (False, words.no))
        if (place := re.search(f"{edge}{word.casefold()}{edge}", found))
    }
    return min(known, key=known.__getitem__) if known else None


def instances_in(text: str, *, outputs_first: bool) -> list[Instance]:
    """Pairs of input and output, up to where another task begins; a reply without any field is an output."""
    if not outputs_first and text.strip() and not _FIELD.search(text):
        return [Instance("", text.strip())]
    found: list[Instance] = []
    held: dict[str, str] = {}
    first = "label" if outputs_first else "input"
    for name, value in _fields(text):
        if name == "instruction":
            if found or held:
                break
            continue
        key = "label" if outputs_first and name == "output" else name
        if key == first or key in held:
            held = {}
        held[key] = value
        answer = held.get("label" if outputs_first else "output")
        if answer and "input" in held:
            found.append(Instance(_input(held["input"]), answer))
            held = {}
        elif answer and not outputs_first:  # a task without an input whose writer left the field out
            found.append(Instance("", answer))
            held = {}
    return found


def _blocks(text: str) -> list[str]:
    """One text for each task: cut at the heads, else at the field with which each begins."""
    parts = [part for part in _TASK_HEAD.split(text) if part and part.strip()]
    cut: list[str] = []
    for part in parts:
        starts = [found.start() for found in _FIELD.finditer(part) if _name(found["name"]) == "instruction"]
        bounds = [*starts, len(part)] if starts else [0, len(part)]
        cut += [part[start:end] for start, end in pairwise(bounds)]
    return cut


def _fields(text: str) -> list[tuple[str, str]]:
    """Names of fields with the text behind each."""
    return _between(text, list(_FIELD.finditer(text)))


def _between(text: str, marks: Sequence[re.Match[str]]) -> list[tuple[str, str]]:
    """Names of the marks with the text from each to the next."""
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return [
        (_name(mark["name"]), text[mark.end() : end].strip().strip("#").strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


def _name(mark: str) -> str:
    return next(name for name, pattern in _MARKS.items() if re.fullmatch(pattern, mark, re.IGNORECASE))


def _input(text: str) -> str:
    return "" if _NONE.fullmatch(text.strip()) else text.strip()
