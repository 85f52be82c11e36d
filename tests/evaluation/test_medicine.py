"""The texts about health among the examples: how many, in which language, and that held-out ones are not trained on."""

import json
import re
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

MEDICINE = Path(__file__).parents[2] / "examples" / "medicine"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def texts(name: str) -> list[str]:
    lines = (MEDICINE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [str(json.loads(line)["text"]) for line in lines]


def test_both_languages_have_two_hundred_kilobytes_in_all() -> None:
    every = [text for name in ("en", "en-held-out", "zh", "zh-held-out") for text in texts(name)]
    assert sum(len(text.encode()) for text in every) > 200_000
    assert all(len(text) > 200 for text in every)


@pytest.mark.parametrize(("language", "least"), [("en", 0.0), ("zh", 0.7)])
def test_every_text_is_in_its_language(language: str, least: float) -> None:
    for text in texts(language) + texts(f"{language}-held-out"):
        share = len(CHINESE.findall(text)) / len(text)
        assert share >= least
        assert share == 0 or language == "zh", text[:40]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_texts_are_made_of_the_same_sentences(language: str) -> None:
    """No template: of a text's runs of eight words or twelve characters hardly any stands in another text."""
    trained, held_out = texts(language), texts(f"{language}-held-out")
    assert len({text.split("\n")[0] for text in trained + held_out}) == len(trained) + len(held_out)
    runs = [_runs(text, language) for text in trained + held_out]
    for one, other in combinations(runs, 2):
        assert len(one & other) < 0.05 * min(len(one), len(other))


def _runs(text: str, language: str) -> set[tuple[str, ...]]:
    units, length = (text.split(), 8) if language == "en" else (list(text), 12)
    return {tuple(units[start : start + length]) for start in range(len(units) - length + 1)}


EVERYDAY = MEDICINE.parent / "everyday"


@pytest.mark.parametrize(("language", "least"), [("en", 0.0), ("zh", 0.7)])
def test_everyday_texts_are_enough_for_an_interval_and_share_nothing_with_what_recipes_train_on(
    language: str, least: float
) -> None:
    lines = (EVERYDAY / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    every = [str(json.loads(line)["text"]) for line in lines]
    assert len(every) >= 25
    assert sum(len(text.encode()) for text in every) > 24_000
    assert all(len(CHINESE.findall(text)) / len(text) >= least for text in every)
    trained = [*texts(language), *(p.read_text(encoding="utf-8") for p in _pages(language))]
    known = set[tuple[str, ...]]().union(*(_runs(text, language) for text in trained))
    assert not any(_runs(text, language) & known for text in every)
    for one, other in combinations([_runs(text, language) for text in every], 2):
        assert not one & other


@pytest.mark.parametrize("name", ["medicine", "medicine-lora", "medicine-zh", "medicine-zh-lora"])
def test_about_half_of_what_the_recipes_read_is_the_handbook_and_none_of_it_is_measured(name: str) -> None:
    language = "zh" if "zh" in name else "en"
    train = _recipe(f"{name}.toml")["data"]["train"]
    assert train == [f"examples/medicine/{language}.jsonl", f"examples/handbook/{language}"]
    pages = (MEDICINE.parent / "handbook" / language).glob("*.md")
    replayed = sum(len(page.read_text(encoding="utf-8")) for page in pages)
    assert 0.4 < replayed / (replayed + sum(map(len, texts(language)))) < 0.55


def test_only_word_vectors_learn_from_everyday_texts() -> None:
    for path in sorted((MEDICINE.parent / "recipes").glob("*.toml")):
        recipe = _recipe(path.name)
        assert recipe["stage"] == "vectors" or "everyday" not in str(recipe), path.name


def _recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((MEDICINE.parent / "recipes" / name).read_text(encoding="utf-8"))


def _pages(language: str) -> list[Path]:
    root = MEDICINE.parents[1]
    return [
        *(root / "docs" / language).glob("*.md"),
        *(root / "examples" / "handbook" / language).glob("*.md"),
    ]
