"""Self-Instruct: a scripted writer makes up tasks; what is good is kept, what is not is counted with its reason."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kun.alignment.self_instruct.filters import (
    Similar,
    fault_of_instance,
    fault_of_instruction,
    names_labels,
    without_contradictions,
)
from kun.alignment.self_instruct.making import Making, make
from kun.alignment.self_instruct.prompts import (
    answer_in,
    instances,
    instances_in,
    instructions,
    instructions_in,
    tasks_in,
    text_of,
    whole_tasks,
)
from kun.alignment.self_instruct.tasks import Instance, Task, language_of_tasks, read_seeds
from kun.data.rows import Conversation
from kun.data.sources import Rows
from kun.errors import BadInput, BadRow, DamagedFile, Unavailable
from kun.models.writers import Asked, ChatMessages, Written

EXAMPLES = Path(__file__).parents[2] / "examples" / "self-instruct"
SEEDS = read_seeds(EXAMPLES / "en.jsonl")
TOPICS = (
    "rivers bridges lamps gardens clocks boats tunnels roofs markets stamps orchards violins kites".split()
)
VERBS = "Describe Compare Summarize Praise Criticize Classify Rank Imagine Explain Question".split()


class Scripted:
    """Writes by a function of the prompt and the number of prompts before it; an error that it returns is raised."""

    name = identity = "scripted"
    can_constrain = True

    def __init__(self, say: Callable[[str, int], Any], *, ended: bool = True) -> None:
        self.say, self.ended = say, ended
        self.asked: list[Asked] = []

    def write(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Written | BadInput]]:
        for place, one in enumerate(asked):
            self.asked.append(one)
            said = self.say(text_of(one.messages), len(self.asked))
            if isinstance(said, Unavailable):
                raise said
            yield place, said if isinstance(said, BadInput) else Written(said, 100, 10, self.ended)

    def fits(self, asked: Asked) -> bool:
        return True

    def close(self) -> None:
        pass


def new_instruction(number: int) -> str:
    topic, other = TOPICS[number % len(TOPICS)], TOPICS[(number * 5 + 2) % len(TOPICS)]
    return f"{VERBS[number % len(VERBS)]} {topic} number {number} beside {other} {number * 7}."


def in_steps(prompt: str, number: int) -> str:
    """What a good model writes at each of the three steps."""
    if "Write 8 others" in prompt:
        return "\n".join(f"{place}. {new_instruction(7 * number + place)}" for place in range(1, 4))
    if "Answer Yes or No" in prompt:
        return "Yes" if prompt.rpartition("\n")[2].startswith("Classify") else "No"
    if "output is a label" in prompt:
        return f"Label: old\nInput: A {number} of stone.\nLabel: new\nInput: A {number} of glass."
    return f"Input: <none>\nOutput: It is number {number}."


def whole(prompt: str, number: int) -> str:
    """What a good model writes where whole tasks are asked for."""
    return "\n\n".join(
        f"### Task {place}\nInstruction: {new_instruction(7 * number + place)}\nInput: <none>\n"
        f"Output: It is {number} and {place}."
        for place in range(4, 7)
    )


def _shown(messages: ChatMessages) -> str:
    """What a prompt gives out as an earlier answer of the model."""
    return "\n".join(message["content"] for message in messages if message["role"] == "assistant")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# seeds


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_seeds_that_ship_pass_their_own_filters(language: str) -> None:
    seeds = read_seeds(EXAMPLES / f"{language}.jsonl")
    assert len(seeds) == 30
    assert language_of_tasks(seeds) == language
    assert 8 <= sum(bool(seed.is_classification) for seed in seeds) <= 12
    similar = Similar([])
    for seed in seeds:
        assert fault_of_instruction(seed.instruction, language, "", similar) is None, seed
        similar.add(seed.instruction)
        is_label = bool(seed.is_classification)
        assert [fault_of_instance(seed.instruction, one, is_label=is_label) for one in seed.instances] == [
            None
        ] * len(seed.instances)


def test_seeds_may_be_rows_of_alpaca(tmp_path: Path) -> None:
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps([{"instruction": f"Do {n}", "input": "", "output": "x"} for n in range(4)]))
    assert read_seeds(path)[3] == Task("Do 3", (Instance("", "x"),))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"instruction": "", "output": "x"}, "instruction"),
        ({"instruction": "a", "output": ""}, "output"),
        ({"instruction": "a", "instances": []}, "instances"),
        ({"instruction": "a", "instances": ["x"]}, "an instance"),
        ({"instruction": "a", "output": "x", "is_classification": "no"}, "is_classification"),
        ({"instruction": "Do 0", "output": "x"}, "repeats"),
    ],
)
def test_a_seed_that_cannot_be_used_is_named_by_file_and_line(tmp_path: Path, line: Any, fault: str) -> None:
    path = tmp_path / "seeds.jsonl"
    rows = [{"instruction": "Do 0", "output": "x"}, line]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadRow, match=rf"seeds\.jsonl:2.*{fault}"):
        read_seeds(path)


def test_too_few_seeds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "Do it", "output": "x"}\n')
    with pytest.raises(BadInput, match="4 are the fewest"):
        read_seeds(path)


# prompts and what is read back


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_shown_in_a_prompt_is_read_back_as_it_is(language: str) -> None:
    seeds = read_seeds(EXAMPLES / f"{language}.jsonl")
    back = tasks_in(_shown(whole_tasks(seeds, 3, language, Random(0))))
    assert [one.instruction for one in back] == [one.instruction for one in seeds]
    assert [one.instances[0] for one in back] == [one.instances[0] for one in seeds]
    names = [one.instruction for one in seeds]
    assert instructions_in(_shown(instructions(names, 3, language, Random(0)))) == names
    for seed in seeds:
        first = bool(seed.is_classification)
        asked = instances("其他" if language == "zh" else "Another", [seed], language, outputs_first=first)
        assert tuple(instances_in(_shown(asked), outputs_first=first)) == seed.instances


@pytest.mark.parametrize(
    ("text", "language", "answer"),
    [
        ("Yes", "en", True), (" no.", "en", False), ("I know: yes", "en", True), ("Perhaps", "en", None),
        ("是", "zh", True), ("不是", "zh", False), ("否。", "zh", False), ("难说", "zh", None),
    ],
)  # fmt: skip
def test_yes_and_no_are_read(text: str, language: str, answer: bool | None) -> None:
    assert answer_in(text, language) is answer


def test_fields_are_read_in_the_ways_in_which_models_write_them() -> None:
    text = "**Instruction:** Add.\n**Input:** 1 and 2\n**Output:** 3\n\n"
    text += "Instruction: Sing.\nInput: N/A\nOutput: La.\nLa."
    assert tasks_in(text) == [
        Task("Add.", (Instance("1 and 2", "3"),)),
        Task("Sing.", (Instance("", "La.\nLa."),)),
    ]
    assert tasks_in("No task at all.") == []
    assert tasks_in("Instruction: Half a task") == [Task("Half a task", ())]


def test_an_output_keeps_the_inputs_and_outputs_that_it_speaks_of() -> None:
    text = "Instruction: Explain doubling by two examples.\nInput: <none>\n"
    output = "Doubling adds a number to itself.\nInput: 3\nOutput: 6\nInput: 4\nOutput: 8"
    assert tasks_in(f"{text}Output: {output}") == [
        Task("Explain doubling by two examples.", (Instance("", output),))
    ]


# filters


@pytest.mark.parametrize(
    ("instruction", "fault"),
    [
        ("Sing now", "too short"),
        ("word " * 151, "too long"),
        ("- name three towns on a river", "begins with punctuation"),
        ("Draw a picture of a house", "needs more than text"),
        ("列出三座城市的名字。", "another language"),
        ("Write tasks four to six in this form", "copies the prompt"),
        ("Rewrite the sentence in very plain words.", "too similar"),
        ("Name three towns that lie on a river.", None),
    ],
)
def test_instructions_are_dropped_for_a_reason(instruction: str, fault: str | None) -> None:
    similar = Similar(seed.instruction for seed in SEEDS)
    prompt = "Rules. Write tasks four to six in this form, please."
    assert fault_of_instruction(instruction, "en", prompt, similar) == fault


@pytest.mark.parametrize(
    ("given", "output", "fault"),
    [
        ("", "…", "no output"),
        ("", "[Your answer here]", "no output"),
        ("", "[1, 2, 3]", None),
        ("some text", "Some  text", "output repeats the input"),
        ("", "I'm sorry, but I cannot do that.", "output declines"),
        ("", "抱歉，我无法完成。", "output declines"),
        ("<input text>", "x", "input is a placeholder"),
        ("see the file http://a.b/c.pdf", "x", "needs more than text"),
        ("", "this goes on and on " * 30, "output repeats itself"),
        ("", "x" * 6001, "output too long"),
        ("", "Dear [Friend's Name],\nI hope that you are well.", "output has blanks"),
        ("", "尊敬的[收件人姓名]：您好。", "output has blanks"),
        ("", "xs = [name for name in names]", None),
        ("two words", "a fine answer", None),
    ],
)
def test_instances_are_dropped_for_a_reason(given: str, output: str, fault: str | None) -> None:
    assert fault_of_instance("Do the task", Instance(given, output)) == fault


@pytest.mark.parametrize(
    ("instruction", "given", "output", "fault"),
    [
        ("Correct this sentence.", "", "It is right.", "input is missing"),
        ("Correct this sentence: he go home.", "", "He goes home.", None),
        ("Correct this sentence: he goes home now.", "", "He goes home now.", "output repeats the input"),
        ("Correct this sentence.", "He go home.", "He goes home.", None),
        ("请给这封信换一种形式。", "", "好的。", "input is missing"),
        ("解释“化学”这个词。", "", "研究物质变化的科学。", None),
        ("Is this message spam? Answer yes or no.", "Win now!", "yes", None),
    ],
)
def test_an_instruction_that_speaks_of_a_text_has_one(
    instruction: str, given: str, output: str, fault: str | None
) -> None:
    assert fault_of_instance(instruction, Instance(given, output)) == fault


def test_a_reply_without_fields_is_an_output_but_no_label() -> None:
    assert instances_in("Chemistry is a science.\n", outputs_first=False) == [
        Instance("", "Chemistry is a science.")
    ]
    assert instances_in("Chemistry is a science.", outputs_first=True) == []
    assert instances_in("  ", outputs_first=False) == []


def test_a_label_is_short_and_belongs_to_an_input() -> None:
    assert fault_of_instance("Is it old or new?", Instance("A bell", "old"), is_label=True) is None
    assert (
        fault_of_instance("Is it old or new?", Instance("", "old"), is_label=True) == "label without an input"
    )
    long = Instance("A bell", "It is old, as far as one can see")
    assert fault_of_instance("Is it old or new?", long, is_label=True) == "label too long"


@pytest.mark.parametrize(
    ("instruction", "choice"),
    [
        ("Is the sentence polite?", True), ("Sort it as early or late.", True), ("What helps against a cold?", False),
        ("How do you boil an egg?", False), ("这句话礼貌吗？", True), ("判断是褒义还是贬义。", True),
        ("怎样煮鸡蛋？", False),
    ],
)  # fmt: skip
def test_what_names_no_labels_is_no_classification(instruction: str, choice: bool) -> None:
    assert names_labels(instruction) is choice


def test_an_input_with_two_outputs_is_dropped_and_a_repeated_one_kept_once() -> None:
    made = [
        Instance("a", "x"),
        Instance("a", "y"),
        Instance("b", "z"),
        Instance("b", "z"),
        Instance("c", "x"),
    ]
    assert without_contradictions(made) == ([Instance("b", "z"), Instance("c", "x")], 3)


def test_similar_chinese_instructions_are_found_by_characters() -> None:
    similar = Similar(["把这段话改写成更简洁的句子。"])
    assert similar.nearest("请把这段话改写成简洁的句子。") >= 0.7
    assert similar.nearest("列出三种常见的水果。") < 0.3


# making


@pytest.mark.parametrize(("style", "say"), [("self-instruct", in_steps), ("alpaca", whole)])
def test_as_many_rows_as_are_wanted_come_out_in_alpacas_format(tmp_path: Path, style: Any, say: Any) -> None:
    out = tmp_path / "made.jsonl"
    cost = make(Scripted(say), SEEDS, out, Making(count=20, style=style, requests=2))
    assert cost.kept == len(rows_of(out)) == 20
    assert cost.ended == "as many rows as were wanted"
    read = list(Rows(str(out), "alpaca"))
    assert all(isinstance(row, Conversation) for row in read)
    assert len(read) == 20
    assert (cost.prompt_tokens, cost.tokens) == (100 * cost.requests, 10 * cost.requests)


def test_classification_is_written_with_its_labels_first(tmp_path: Path) -> None:
    out = tmp_path / "made.jsonl"
    make(Scripted(in_steps), SEEDS, out, Making(count=40, requests=4))
    rows = rows_of(out)
    sorted_out = [row for row in rows if row["is_classification"]]
    assert sorted_out
    assert {row["output"] for row in sorted_out} == {"old", "new"}
    assert all(row["instruction"].startswith("Classify") for row in sorted_out)
    assert all(row["output"].startswith("It is") for row in rows if not row["is_classification"])


def test_a_run_that_was_stopped_goes_on_and_its_cost_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "made.jsonl"

    def dies(prompt: str, number: int) -> Any:
        return whole(prompt, number) if number < 4 else Unavailable("gone")

    with pytest.raises(Unavailable):
        make(Scripted(dies), SEEDS, out, Making(count=20, style="alpaca", requests=2))
    before = rows_of(out)
    assert len(before) == 9  # those of the reply before the fault too
    cost = make(
        Scripted(lambda prompt, number: whole(prompt, number + 50)), SEEDS, out,
        Making(count=20, style="alpaca", requests=2),
    )  # fmt: skip
    assert rows_of(out)[:9] == before
    assert len(rows_of(out)) == 20
    assert cost.requests == 3 + 4  # three tasks in each reply
    made = [row["instruction"] for row in rows_of(out)]
    assert len(set(made)) == len(made)


def test_rows_of_a_round_are_kept_as_they_come_and_no_more_is_asked_than_wanted(tmp_path: Path) -> None:
    out = tmp_path / "made.jsonl"

    def dies(prompt: str, number: int) -> Any:
        return in_steps(prompt, number) if number < 10 else Unavailable("gone")

    with pytest.raises(Unavailable):  # two prompts give six instructions, six are sorted; then one instance
        make(Scripted(dies), SEEDS, out, Making(count=20, requests=2))
    assert len(rows_of(out)) >= 1
    writer = Scripted(in_steps)
    make(writer, SEEDS, tmp_path / "few.jsonl", Making(count=2, requests=2))
    assert len(rows_of(tmp_path / "few.jsonl")) == 2
    assert len(writer.asked) <= 10


def test_for_one_row_a_round_makes_few_tasks(tmp_path: Path) -> None:
    def many(prompt: str, number: int) -> str:
        if "Write 8 others" in prompt:
            return "\n".join(f"{place}. {new_instruction(9 * number + place)}" for place in range(1, 9))
        return in_steps(prompt, number)

    writer = Scripted(many)
    make(writer, SEEDS, tmp_path / "one.jsonl", Making(count=1))
    prompts = [text_of(one.messages) for one in writer.asked]
    assert sum("Write 8 others" in prompt for prompt in prompts) == 1
    assert sum("Answer Yes or No" in prompt for prompt in prompts) == 4
    assert len(prompts) == 6
    alpaca = Scripted(whole)
    make(alpaca, SEEDS, tmp_path / "whole.jsonl", Making(count=3, style="alpaca"))
    assert len(alpaca.asked) == 1


def test_a_file_that_is_full_asks_nothing(tmp_path: Path) -> None:
    out = tmp_path / "made.jsonl"
    make(Scripted(whole), SEEDS, out, Making(count=5, style="alpaca"))
    writer = Scripted(whole)
    assert make(writer, SEEDS, out, Making(count=5, style="alpaca")).kept == 5
    assert not writer.asked


def test_a_model_that_says_the_same_over_and_over_is_given_up(tmp_path: Path) -> None:
    cost = make(
        Scripted(lambda prompt, number: whole(prompt, 1)), SEEDS, tmp_path / "made.jsonl",
        Making(count=50, style="alpaca", requests=1, patience=3),
    )  # fmt: skip
    assert cost.kept == 3
    assert cost.rounds == 4
    assert cost.ended == "nothing new in 3 rounds"
    assert cost.dropped["too similar"] == 9


def test_nonsense_is_counted(tmp_path: Path) -> None:
    cost = make(
        Scripted(lambda prompt, number: "Certainly!"),
        SEEDS,
        tmp_path / "made.jsonl",
        Making(patience=2, requests=2),
    )
    assert cost.kept == 0
    assert cost.dropped == {"no task in the reply": 4}
    assert cost.share == 0


def test_a_reply_that_was_cut_off_loses_its_last_task(tmp_path: Path) -> None:
    cost = make(
        Scripted(whole, ended=False), SEEDS, tmp_path / "made.jsonl",
        Making(count=2, style="alpaca", requests=1),
    )  # fmt: skip
    assert cost.kept == 2
    assert cost.dropped["cut off"] == 1


def test_a_writer_that_refuses_every_prompt_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="context"):
        make(Scripted(lambda prompt, number: BadInput("context too short")), SEEDS, tmp_path / "made.jsonl")


def test_a_file_of_something_else_is_not_added_to(tmp_path: Path) -> None:
    out = tmp_path / "made.jsonl"
    out.write_text('{"text": "a novel"}\n')
    with pytest.raises(BadRow, match=r"made\.jsonl:1"):
        make(Scripted(whole), SEEDS, out)
    out.write_text("a novel\n")
    with pytest.raises(DamagedFile):
        make(Scripted(whole), SEEDS, out)


def test_prompts_show_own_instructions_beside_the_seeds_and_change_by_round(tmp_path: Path) -> None:
    writer = Scripted(in_steps)
    make(writer, SEEDS, tmp_path / "made.jsonl", Making(count=12, requests=1))
    first, second = [one.messages for one in writer.asked if "Write 8 others" in one.messages[-1]["content"]][
        :2
    ]
    assert first[-1] != second[-1]  # other topics and forms
    known = {seed.instruction for seed in SEEDS}
    assert len([one for one in instructions_in(_shown(second)) if one not in known]) == 2
