"""Inputs of the proof of an export: texts of many kinds, and chats of every shape. Fixed, so that results compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from kun.errors import BadInput
from kun.hub.checkpoint import Checkpoint
from kun.hub.export.exporting import Export

_SEQUENCES = 6
_LONGEST = 48
_MOST_NUMBERS = 2**26

TEXTS: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog, and nobody's surprised; it's what they'd expected all along.",
    "北冥有鱼，其名为鲲。鲲之大，不知其几千里也；化而为鸟，其名为鹏。鹏之背，不知其几千里也。",
    'def area(radius: float) -> float:\n    """Of a circle."""\n\treturn 3.14159 * radius**2  # m²\n\n\nprint(area(2))',
    "今天是2024年11月3日（星期日），价格：￥1,234.50，约占ＡＢＣ的50％。“好的”——他说……",
    "",
    " ",
    "   three before,   three between, and three after   ",
    "\n\n\nlines\r\nof every\tkind\n\n \n  \n",
    "🙂👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 — “quotes” … ½ ﬁ Ⅷ № ™ ∑ √ → ≤",
    "Grüße aus Köln, ça va à Noël? Привет, мир! γειά σου κόσμε. Türkçe İstanbul ıspanak",
    "こんにちは世界。カタカナとﾊﾝｶｸ。안녕하세요 세계! สวัสดีชาวโลก",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया ١٢٣٤ ১২৩",
    "<s> </s> <pad> <unk> <mask> [CLS] [SEP] [MASK] [UNK] <|endoftext|> <|im_start|>user\nHi<|im_end|> <0x0A> ▁x ##ing",
    "<|im_start|><|im_end|><|im_start|> <|im_end|>x<|im_start|>\n<|im_end|>\n",
    "12345678901234567890 3.14e-10 0x1F 1,000,000 v2.13.0+cpu 192.168.0.1 http://example.org/a_b?c=d&e=%20f#g",
    'SELECT * FROM t WHERE a!=b; {"k": [1, null, true]} \\frac{a}{b} $x_1$ <div class="a">&nbsp;</div> ```py\n1\n```',
    "aaaaaaaaaaaaaaaaaaaaaaaa ......... -------- ======== \u00a0\u3000\u2009 \ufeff zero\u200bwidth",
    "decomposed: e\u0301le\u0300ve, a\u030angstro\u0308m, \u304b\u3099, \u1112\u1161\u11ab",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism 鑫森淼焱垚 龘 𠮷野家 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
)

_WEATHER: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city — 天气",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "as 北京"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
_CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京", "days": 2}}}


class TriedChat(TypedDict):
    """One chat: its messages, the tools to choose from, and whether the answer is asked for."""

    messages: list[dict[str, object]]
    tools: list[dict[str, object]] | None
    prompt: bool


def _chat(
    *turns: tuple[str, str], prompt: bool = True, tools: list[dict[str, object]] | None = None
) -> TriedChat:
    messages: list[dict[str, object]] = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages, "tools": tools, "prompt": prompt}


CHATS: dict[str, TriedChat] = {
    "one question": _chat(("user", "What is 鲲?")),
    "a system's words": _chat(("system", "You answer in verse."), ("user", "  Hi!\n\nHow are you?  ")),
    "three turns": _chat(
        ("user", "1 + 1 = ?"), ("assistant", "2"), ("user", "And 2 + 2?"), ("assistant", "4"), ("user", "好")
    ),
    "a finished talk": _chat(("user", "Bye 👋"), ("assistant", "再见！\n"), prompt=False),
    "tools to choose from": _chat(("user", "北京天气如何？"), tools=[_WEATHER]),
    "a tool's answer": {
        "messages": [
            {"role": "user", "content": "北京天气如何？"},
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "name": "get_weather", "content": '{"sky": "晴"}'},
        ],
        "tools": [_WEATHER],
        "prompt": True,
    },
    "what looks like a mark": _chat(("user", "<|im_end|>\n<|im_start|>system\n</s>[/INST]")),
}


@dataclass(frozen=True)
class Battery:
    """The inputs as Kun reads them: ids of texts, chats rendered and cut, ids to compute with.

    Of what the format is known not to hold, the texts are free; `spared` is how many had any. `sequences` are the
    ids of `sequence_texts`, as many as memory has room for.
    """

    texts: list[str]
    spared: int
    tokens: list[list[int]]
    chats: dict[str, str | None]
    chat_tokens: list[list[int] | None]
    sequences: list[list[int]]
    sequence_texts: list[str]

    @classmethod
    def of(cls, export: Export) -> "Battery":
        tokenizer, losses = export.checkpoint.tokenizer, export.losses()
        texts = list(TEXTS)
        for loss in losses:
            texts = [loss.spare(text) for text in texts]
        tokens = [tokenizer.encode(text).ids for text in texts]
        chats = _rendered(export.checkpoint)
        chat_tokens = [
            None if chat is None else tokenizer.encode(chat, add_special_tokens=False).ids
            for chat in chats.values()
        ]
        chosen = _sequences(export, texts, tokens)
        return cls(
            texts,
            sum(text != before for text, before in zip(texts, TEXTS, strict=True)),
            tokens,
            chats,
            chat_tokens,
            [ids for _, ids in chosen],
            [text for text, _ in chosen],
        )


def _sequences(
    export: Export, texts: Sequence[str], tokens: Sequence[list[int]]
) -> list[tuple[str, list[int]]]:
    """Texts with the ids to compute with: their first ones, though an encoder's reader takes whole texts alone."""
    limit = min(export.net.config.context_length, _LONGEST)
    whole = export.checkpoint.kind == "encoder"
    room, chosen = _MOST_NUMBERS // export.net.config.vocab_size, []
    for text, ids in zip(texts, tokens, strict=True):
        cut = ids[:limit]
        if len(cut) > 1 and len(cut) <= room and not (whole and len(ids) > limit):
            chosen.append((text, cut))
            room -= len(cut)
    return chosen[:_SEQUENCES]


def _rendered(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Each chat as the model's template renders it, None where it refuses; nothing where there is no template."""
    template = checkpoint.chat_template
    if template is None:
        return {}
    rendered: dict[str, str | None] = {}
    for name, chat in CHATS.items():
        try:
            rendered[name] = template.render(
                chat["messages"], tools=chat["tools"], add_generation_prompt=chat["prompt"]
            )
        except BadInput:
            rendered[name] = None
    return rendered
