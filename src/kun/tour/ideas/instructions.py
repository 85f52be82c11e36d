"""§ 9, LLaMA, Alpaca, Vicuna: instructions and conversations become one form, the loss falls on answers."""

import json
from pathlib import Path

from kun.data.chat_loss import learned_tokens, render
from kun.data.formats import DataFormat, to_row
from kun.data.records import Record
from kun.data.rows import Conversation
from kun.text.chat import ChatTemplate
from kun.text.learn import byte_tokenizer
from kun.tour.drawings.canvas import Label
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import LANGUAGE_MODEL, Session

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% "
    "endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_ALPACA: dict[str, object] = {"instruction": "Name the opposite.", "input": "hot", "output": "cold"}
_SHARED: dict[str, object] = {
    "conversations": [
        {"from": "human", "value": "Who wrote Faust?"},
        {"from": "gpt", "value": "Goethe."},
        {"from": "human", "value": "When?"},
        {"from": "gpt", "value": "Part one in 1808."},
    ]
}
_SEEDS = ("Rewrite the sentence in plain words.", "Is this message spam? Answer yes or no.")
_WRITTEN = """### Task 3
Instruction: Rewrite the sentence in very plain words.
Input: He utilizes a pen.
Output: He uses a pen.

### Task 4
Instruction: Draw a picture of a whale.
Input: <none>
Output: Here it is.

### Task 5
Instruction: List two reasons to learn a second language.
Input: <none>
Output: Travel, and films as they were made."""
"""What a model may write when it is asked to go on from the seeds."""
_PAIRS = (
    ("What is the capital of France?", "Paris.", "Bananas are yellow."),
    ("Name a month of summer.", "July.", "Tuesday."),
    ("What is two and three?", "Five.", "The sea."),
)
"""Questions, each with a right answer and one that is none."""


def _answers_alone(session: Session) -> Shown:
    """An Alpaca record and a shared conversation, as the network reads them; learned tokens are the answers'."""
    del session
    template = ChatTemplate(_TEMPLATE)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    learned = []
    cases: tuple[tuple[dict[str, object], DataFormat], ...] = ((_ALPACA, "alpaca"), (_SHARED, "sharegpt"))
    for record, format in cases:
        row = to_row(Record("example", record), format)
        assert isinstance(row, Conversation)
        rendered = render(row, template, ("<|im_end|>",))
        encoding = tokenizer.encode(rendered.text, add_special_tokens=False)
        kept = learned_tokens(encoding, rendered)
        ids = [token for token, is_kept in zip(encoding.ids, kept, strict=True) if is_kept]
        learned.append(tokenizer.decode(ids, skip_special_tokens=True))
    return Shown(
        learned == ["cold", "Goethe.Part one in 1808."],
        (
            f"Alpaca's record and Vicuna's conversation become the same turns; the loss falls on "
            f"“{learned[0]}” and on “{learned[1]}” alone.",
            f"Alpaca 的记录和 Vicuna 的对话变成同样的轮次；损失只落在“{learned[0]}”和“{learned[1]}”上。",
        ),
        quote="\n".join(json.dumps(record, ensure_ascii=False) for record in (_ALPACA, _SHARED)),
    )


def _llama_answers(session: Session) -> Shown:
    """A LLaMA-type model that was tuned on instructions."""
    from kun.hub.store import resolve
    from kun.models.language_model import LanguageModel

    with LanguageModel.open(
        resolve("smollm2-135m-instruct")
    ) as lm:  # so small a network loses much in 4 bits
        said = str(
            lm.generate(
                [{"role": "user", "content": "What is the capital of France?"}],
                max_tokens=24,
                temperature=0.0,
            )
        ).strip()
    return Shown(
        "Paris" in said,
        (
            f"SmolLM2, a LLaMA-type network tuned on instructions: What is the capital of France? → {said}",
            f"SmolLM2 是 LLaMA 结构、用指令微调过的模型：What is the capital of France? → {said}",
        ),
    )


def _sorted_out(session: Session) -> Shown:
    """Self-Instruct's filters on three tasks: one too like a seed, one that needs a picture, one that is new."""
    from kun.alignment.self_instruct.filters import Similar, fault_of_instruction
    from kun.alignment.self_instruct.prompts import tasks_in

    del session
    similar = Similar(_SEEDS)
    rows: list[tuple[Label | str, ...]] = []
    kept = []
    for task in tasks_in(_WRITTEN):
        nearest = similar.nearest(task.instruction)
        fault = fault_of_instruction(task.instruction, "en", "", similar)
        kept += [task.instruction] if fault is None else []
        rows.append((task.instruction, f"{nearest:.2f}", _FAULTS[fault]))
    return Shown(
        kept == ["List two reasons to learn a second language."],
        (
            f"Of {len(rows)} tasks that a model wrote from two seeds {len(kept)} is kept: ROUGE-L with every "
            "instruction so far must be below 0.7, and text must be enough.",
            f"模型由两条种子写出 {len(rows)} 个任务，留下 {len(kept)} 个："
            "与已有指令的 ROUGE-L 须低于 0.7，而且只靠文字就能完成。",
        ),
        Table((("instruction", "指令"), ("ROUGE-L", "ROUGE-L"), ("verdict", "结果")), rows),
    )


_FAULTS: dict[str | None, Label] = {
    None: ("kept", "保留"),
    "too similar": ("too similar", "太相似"),
    "needs more than text": ("needs more than text", "不只需要文字"),
}


def _judged(session: Session) -> Shown:
    """Right answers against others, both orders, judged by this machine's model; whether its verdict flips is shown."""
    from tempfile import TemporaryDirectory

    from kun.evaluation.judging.answers import Answers
    from kun.evaluation.judging.judges import ReadingJudge
    from kun.evaluation.judging.questions import Question
    from kun.evaluation.judging.standings import standings
    from kun.evaluation.judging.verdicts import judge_all
    from kun.models.writers import LocalWriter

    questions = [Question(number, "generic", (asked,)) for number, (asked, _, _) in enumerate(_PAIRS)]
    right = Answers("right", {number: (pair[1],) for number, pair in enumerate(_PAIRS)})
    other = Answers("other", {number: (pair[2],) for number, pair in enumerate(_PAIRS)})
    judge = ReadingJudge(LocalWriter(session.language_model()))
    with TemporaryDirectory() as folder:
        verdicts = judge_all(judge, questions, [right, other], Path(folder), "pairs")
    found = standings(judge, questions, [right, other], verdicts)
    held, [met] = found.consistency, found.encounters
    return Shown(
        held.compared == len(_PAIRS) and met.wins >= met.losses,
        (
            f"{judge.name} compares {len(_PAIRS)} right answers with others in both orders: {met.wins} won, {met.ties} "
            f"tied, {met.losses} lost; {held.flips} verdicts flip with the order, and count as ties.",
            f"{judge.name} 把 {len(_PAIRS)} 个正确回答与别的回答按两种顺序比较："
            f"{met.wins} 胜 {met.ties} 平 {met.losses} 负；{held.flips} 个裁决随顺序翻转，算平局。",
        ),
    )


IDEA = Idea(
    number=9,
    title=("LLaMA, Alpaca, Vicuna", "LLaMA、Alpaca、Vicuna"),
    examples=(
        Example(
            ("instructions and conversations, the loss on answers", "指令与对话，损失只算回答"),
            _answers_alone,
        ),
        Example(
            ("a LLaMA-type model answers", "LLaMA 结构的模型回答"), _llama_answers, ("smollm2-135m-instruct",)
        ),
        Example(("made-up tasks are sorted out", "编出来的任务要筛选"), _sorted_out),
        Example(("a judge reads both orders", "裁判看两种顺序"), _judged, (LANGUAGE_MODEL,)),
    ),
    see=(
        "`kun chat smollm2-135m-instruct`; `kun train examples/recipes/instructions.toml -o "
        "data.train=YOURS.jsonl`; `kun self-instruct examples/self-instruct/en.jsonl -o made.jsonl`; "
        "`kun judge A B --questions examples/judging/en.jsonl`",
        "`kun chat smollm2-135m-instruct`；`kun train examples/recipes/instructions.toml -o "
        "data.train=你的.jsonl`；`kun self-instruct examples/self-instruct/zh.jsonl -o made.jsonl`；"
        "`kun judge A B --questions examples/judging/zh.jsonl`",
    ),
    comes=(
        "a LLaMA-type model answers; instructions and shared conversations tune it, the loss on answers "
        "alone",
        "LLaMA 结构的模型作答；指令和分享的对话都能微调它，损失只算回答",
    ),
    sources=(
        "Touvron et al., arXiv:2302.13971",
        "Taori et al., “Alpaca”, Stanford, 2023; Wang et al. (Self-Instruct), arXiv:2212.10560",
        "LMSYS, “Vicuna”, 30 March 2023; Zheng et al. (judging), arXiv:2306.05685",
    ),
)
