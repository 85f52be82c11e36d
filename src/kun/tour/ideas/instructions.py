"""§ 9, LLaMA, Alpaca, Vicuna: instructions and conversations become one form, the loss falls on answers."""

import json

from kun.data.chat_loss import learned_tokens, render
from kun.data.formats import DataFormat, to_row
from kun.data.records import Record
from kun.data.rows import Conversation
from kun.text.chat import ChatTemplate
from kun.text.learn import byte_tokenizer
from kun.tour.example import Example, Idea, Shown
from kun.tour.session import Session

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
    ),
    see=(
        "`kun chat smollm2-135m-instruct`; `kun train examples/recipes/instructions.toml -o "
        "data.train=YOURS.jsonl`",
        "`kun chat smollm2-135m-instruct`；`kun train examples/recipes/instructions.toml -o "
        "data.train=你的.jsonl`",
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
    later=("Judging in eight categories, Self-Instruct.", "分八类评判；Self-Instruct。"),
)
