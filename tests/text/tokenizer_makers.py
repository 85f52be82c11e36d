"""Small tokenizers in every form that checkpoints come with, made on the spot, and lines to try them on."""

import io
import json
import random
from pathlib import Path

from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PROSE = [
    "The quick brown fox jumps over the lazy dog; it's 2024, and nobody doesn't know: café, naïve, Ünder.",
    "北冥有鱼，其名为鲲。鲲之大，不知其几千里也；化而为鸟，其名为鹏。",
    "def area(radius):\n    return 3.14 * radius ** 2  # ok!?",
    "Привет, мир! こんにちは、ガラス。 한국어 시험 ½ ﬁ １２３ 🙂",
    "    for i in range(1000): total += values[i] or 0x1F",
]
_ODD = [
    *"aeAZ09 .,<>/_▁\t\n\r\0\x01\x7f中文，。éﬁÅἀハﾊﾟかが１½🙂👩🏽🇨🇳한\u1112\u1161\u11ab",
    *"\u0301\u0323\u0308\u3099\u200d\ufe0f\u00a0\u3000\u200b\ufeff\u2028\ud7ff\ue000\U000e0041\U0010ffff",
    "  ", "0x", "</", "哈哈哈", "----", "ca\u0301fe\u0301",
]  # fmt: skip


def lines(count: int = 400, seed: int = 0) -> list[str]:
    """Chinese, English, code and odd characters: whole sentences, mixtures, runs of one thing, and two long lines."""
    chance = random.Random(seed)
    made = [*PROSE, "", " ", "  a", "a  ", "\n", *(f"  {line} " for line in PROSE)]
    while len(made) < count - 2:
        some = chance.choices(PROSE, k=chance.randint(1, 3))
        odd = "".join(chance.choices(_ODD, k=chance.randint(1, 12)))
        made += [
            "".join(some),
            odd,
            chance.choice(PROSE)[: chance.randint(0, 60)] + odd,
            chance.choice(_ODD) * 9,
        ]
    return [*made[: count - 2], " ".join(PROSE * 40), "鲲" * 3000]


def sentencepiece_model(path: Path, **options: object) -> Path:
    """A SentencePiece model trained on a few sentences."""
    data = io.BytesIO()
    options = {
        "model_type": "unigram",
        "vocab_size": 500,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    } | options
    sentences = iter([*PROSE * 4, *(line.lower() for line in PROSE)])
    SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=data, **options)
    path.write_bytes(data.getvalue())
    return path


def byte_level_files(folder: Path, special: list[str]) -> None:
    """vocab.json and merges.txt, special tokens first."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        PROSE,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    trained.model.save(str(folder))


def words_file(folder: Path) -> None:
    """vocab.txt: pieces of words in several scripts, upper case and accents among them."""
    letters = sorted(
        {
            letter
            for line in PROSE
            for letter in line + line.lower() + "cafenaiveunder"
            if not letter.isspace()
        }
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += ["the", "The", "quick", "##ing", "##er", "know", "café", "cafe", "鲲之", "##之大"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def write_config(folder: Path, model_type: str = "", **said: object) -> None:
    """config.json of a model, and tokenizer_config.json."""
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
