"""Prompts that ask for tasks, in English and Chinese, and the tasks that stand in what a model writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kun.alignment.self_instruct.tasks import Instance, Task

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

    whole: str
    more: str
    instructions: str
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


WORDS = {
    "en": Words(
        whole="Make up tasks for an assistant that reads and writes text and does nothing else. Let them differ in "
        "topic, verb, length and form: questions, requests, rewriting, sorting, reasoning, planning, small programs. "
        "An instruction is one or two sentences. Give an input where the task needs one, made up in full, of at most "
        "100 words, and <none> where it does not. The output does what the instruction asks, completely and "
        "correctly. Nothing may need a picture, a sound, a link or a file.",
        more="Write tasks {first} to {last} in exactly this form.",
        instructions="Here is a list of tasks for an assistant that reads and writes text. Go on with numbers {first} "
        "to {last}: new tasks, unlike these and each other, a line each, without solving them.",
        sorting="Is this a classification task, one whose output is one of a few fixed labels? Answer Yes or No.",
        yes="Yes",
        no="No",
        inputs_first="Make up an example for the last task: an input where it needs one (<none> where it does not), "
        "then the complete and correct output. Keep to the form.",
        outputs_first="Make up examples for the last task, a classification. Write each label first, then an input to "
        "which that label belongs; let every label occur once. Keep to the form.",
        head="### Task {number}",
        instruction="Instruction",
        input="Input",
        output="Output",
        label="Label",
        colon=": ",
    ),
    "zh": Words(
        whole="请为一个只会读写文字的助手设计任务。话题、动词、长短和形式都要有变化：提问、请求、改写、归类、推理、"
        "计划、小程序都可以。指令一两句话即可。任务需要输入时，请编出完整的输入，不超过 150 字；不需要时写 <无>。"
        "输出要完整、正确地做到指令所要求的。任何任务都不能依赖图片、声音、链接或文件。",
        more="请严格按照这个格式写出第 {first} 到第 {last} 个任务。",
        instructions="下面列出了一些交给文字助手的任务。请接着写第 {first} 到第 {last} 个：要新，"
        "与已有的和彼此之间都不相似，每个一行，不用给出答案。",
        sorting="这是分类任务吗？也就是说，输出是不是少数几个固定标签之一？请回答“是”或“否”。",
        yes="是",
        no="否",
        inputs_first="请为最后一个任务编一个例子：需要输入就先写输入（不需要写 <无>），"
        "再写完整、正确的输出。保持格式。",
        outputs_first="最后一个任务是分类。请为它编几个例子：先写标签，再写属于这个标签的输入，每个标签出现一次。保持格式。",
        head="### 任务 {number}",
        instruction="指令",
        input="输入",
        output="输出",
        label="标签",
        colon="：",
    ),
}


def whole_tasks(tasks: Sequence[Task], more: int, language: str) -> str:
    """Alpaca's single step: some tasks in full, and so many `more` to be written."""
    words = WORDS[language]
    shown = [_whole(number, task, language) for number, task in enumerate(tasks, 1)]
    wanted = words.more.format(first=len(tasks) + 1, last=len(tasks) + more)
    return "\n\n".join([words.whole, *shown, wanted])


def instructions(known: Sequence[str], more: int, language: str) -> str:
    """Self-Instruct's first step: some instructions, and so many `more` to be written."""
    words = WORDS[language]
    wanted = words.instructions.format(first=len(known) + 1, last=len(known) + more)
    return "\n".join([wanted, "", *(f"{number}. {one}" for number, one in enumerate(known, 1))])


def sorting(instruction: str, shown: Sequence[Task], language: str) -> str:
    """Self-Instruct's second step: whether a task is a classification, after some of which that is known."""
    words = WORDS[language]
    lines = [
        f"{words.instruction}{words.colon}{task.instruction}\n{words.yes if task.is_classification else words.no}"
        for task in shown
    ]
    return "\n\n".join([words.sorting, *lines, f"{words.instruction}{words.colon}{instruction}"])


def instances(instruction: str, shown: Sequence[Task], language: str, *, outputs_first: bool) -> str:
    """Self-Instruct's third step: instances of a task, of a classification with the output before its input."""
    words = WORDS[language]
    parts = [words.outputs_first if outputs_first else words.inputs_first]
    for task in shown:
        lines = [f"{words.instruction}{words.colon}{task.instruction}"]
        for one in task.instances:
            given = one.input or NO_INPUT[language]
            fields = [(words.label, one.output), (words.input, given)]
            fields = fields if outputs_first else [(words.input, given), (words.output, one.output)]
            lines += [f"{name}{words.colon}{text}" for name, text in fields]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, f"{words.instruction}{words.colon}{instruction}"])


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
    """Tasks in full; one that lacks a field has no instance."""
    found: list[Task] = []
    for block in _blocks(text):
        fields = dict(_fields(block))
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
    """Pairs of input and output, up to where another task begins."""
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
    marks = list(_FIELD.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return [
        (_name(mark["name"]), text[mark.end() : end].strip().strip("#").strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


def _name(mark: str) -> str:
    return next(name for name, pattern in _MARKS.items() if re.fullmatch(pattern, mark, re.IGNORECASE))


def _input(text: str) -> str:
    return "" if _NONE.fullmatch(text.strip()) else text.strip()
