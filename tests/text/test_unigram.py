"""Short texts are cut into the library's ids by the compact Unigram model."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kun.text.unigram import CompactUnigram

WORDS = [
    "the",
    "fish",
    "is",
    "named",
    "kun",
    "鲲",
    "北冥",
    "有鱼",
    "ing",
    "un",
    "known",
    'quote"d',
    "back\\\\slash",
]


def tokenizer() -> Tokenizer:
    letters = [chr(code) for code in range(97, 117)] + ["▁", *"鲲北冥有鱼其名为"]
    pairs = [f"{a}{b}" for a in letters for b in letters]
    pieces = dict.fromkeys([*letters, *WORDS, *(f"▁{word}" for word in WORDS), *pairs])
    scored = [(text, -1.0 - len(text) % 3 - number / 100) for number, text in enumerate(pieces)]
    made = Tokenizer(models.Unigram([("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored], unk_id=2))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made.add_special_tokens([AddedToken(text, normalized=False) for text in ("<s>", "</s>", "<unk>")])
    return made


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, CompactUnigram]:
    path = tmp_path_factory.mktemp("unigram") / "tokenizer.json"
    tokenizer().save(str(path))
    compact = CompactUnigram.read(path)
    assert compact is not None
    return Tokenizer.from_file(str(path)), compact


@given(
    text=st.lists(st.sampled_from([*WORDS, " ", "  ", "z", "🦄", "ﬁ", "Ａ"]) | st.text(max_size=3)).map(
        "".join
    )
)
def test_ids_are_the_librarys(both: tuple[Tokenizer, CompactUnigram], text: str) -> None:
    whole, compact = both
    found, encoding = compact.encode(text, "kun: "), whole.encode(f"kun: {text}")
    if found is None:
        assert not text.isalpha()
        return
    ids, own = found
    assert ids == encoding.ids
    offsets, special = encoding.offsets, encoding.special_tokens_mask
    assert list(own) == [n for n, (_, end) in enumerate(offsets) if not special[n] and end > len("kun: ")]


def test_what_the_library_alone_can_do_is_left_to_it(
    both: tuple[Tokenizer, CompactUnigram], tmp_path: Path
) -> None:
    assert both[1].encode("a <s> b") is None
    other = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(other))
    assert CompactUnigram.read(other) is None
    described = json.loads(tokenizer().to_str())
    described["model"]["byte_fallback"] = True
    other.write_text(json.dumps(described))
    assert CompactUnigram.read(other) is None
