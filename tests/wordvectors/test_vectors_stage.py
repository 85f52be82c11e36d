"""The stage `vectors`: a run from a recipe, resumed bit for bit, and what it refuses."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from damages import damaged

import kun
from kun.errors import BadInput, BadRecipe, DamagedFile, NoMemory
from kun.training.loop import Loop
from kun.training.recipe import parse_recipe
from kun.training.run import Run
from kun.training.train import train
from kun.wordvectors.corpus import open_corpus
from kun.wordvectors.recipes import METHODS, Method, Wanted
from kun.wordvectors.vectors import WordVectors

CLOCK = ("seconds", "items_per_s")


def recipe(text: Path, out: Path, name: str, **tables: dict[str, object]) -> dict[str, object]:
    made: dict[str, dict[str, object]] = {
        "data": {"train": str(text), "eval": 0.1},
        "train": {
            "steps": 12,
            "eval_every": 4,
            "snapshot_every": 5,
            "batch": 3000,
            "prompts": ["king", "nobody"],
        },
        "objective": {"name": name, "dimensions": 12, "window": 2, "min_count": 1, "threads": 1},
        "optimizer": {"name": "sgd", "lr": 0.05, "schedule": "linear"},
    }
    for table, values in tables.items():
        made[table] = {**made.get(table, {}), **values}
    return {"stage": "vectors", "out": str(out), **made}


def run(*given: object, resume: bool = False, **tables: dict[str, object]) -> Run:
    return train(parse_recipe(recipe(*given, **tables)), "vectors", resume=resume)  # type: ignore[arg-type]


def told(run: Run) -> list[dict[str, object]]:
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in run.metrics]


@pytest.mark.parametrize("name", ["word2vec", "glove"])
def test_a_run_learns_and_leaves_vectors_that_kun_loads(name: str, text: Path, tmp_path: Path) -> None:
    done = run(text, tmp_path / "run", name)
    losses = [line["eval_loss"] for line in done.metrics if "eval_loss" in line]
    assert losses[-1] < losses[0]
    vectors = kun.load(done.checkpoint)
    assert isinstance(vectors, WordVectors)
    assert vectors.config["method"] == name
    assert vectors.vectors.shape == (len(vectors.words), 12)
    assert vectors.name == "run"
    samples = (done.path / "samples.jsonl").read_text(encoding="utf-8")
    assert '"prompt": "king"' in samples
    assert "no word 'nobody'" in samples
    lineage = json.loads((done.checkpoint / "kun.json").read_text(encoding="utf-8"))
    assert lineage["recipe"]["stage"] == "vectors"
    assert done.report.is_file()


@pytest.mark.parametrize("name", ["word2vec", "glove"])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    name: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(text, tmp_path / "whole", name)
    taken = 0
    step = Loop._step

    def interrupted(loop: Loop) -> None:  # type: ignore[type-arg]
        nonlocal taken
        taken += 1
        if taken == 8:
            raise RuntimeError("the machine went down")
        step(loop)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(RuntimeError, match="went down"):
        run(text, tmp_path / "run", name)
    monkeypatch.undo()
    again = run(text, tmp_path / "run", name, resume=True)
    assert told(again) == told(whole)
    one, other = (kun.load(each.checkpoint) for each in (whole, again))
    assert isinstance(one, WordVectors)
    assert isinstance(other, WordVectors)
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_analogies_are_answered_at_evaluations(text: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("man woman king queen\nboy girl prince princess\n", encoding="utf-8")
    done = run(
        text,
        tmp_path / "run",
        "word2vec",
        objective={"analogies": str(questions)},
        train={"steps": 150, "eval_every": 150},
        optimizer={"lr": 0.1},
    )
    assert done.metrics[-1]["eval_analogies"] == 1.0
    assert 0 <= done.metrics[-1]["eval_analogies_with_query"] <= 1.0


@pytest.mark.parametrize(("method", "batch"), [("skip-gram", 200_000), ("glove", 2**20)])
def test_a_step_is_many_words_where_the_recipe_says_nothing(
    method: Method, batch: int, text: Path, tmp_path: Path
) -> None:
    wanted = Wanted(
        [str(text)], out=str(tmp_path / "run"), method=method, dimensions=4, epochs=3, min_count=1
    )
    done = train(parse_recipe(wanted.recipe()), "vectors")
    assert tomllib.loads((done.path / "recipe.toml").read_text(encoding="utf-8"))["train"]["batch"] == batch
    assert len(done.metrics) == 3  # an epoch of so small a text is one step


def test_a_text_too_small_for_the_vectors_asked_for_is_told_of(text: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"too few for vectors of 100 numbers.*objective.dimensions"):
        run(text, tmp_path / "run", "word2vec", objective={"dimensions": 100})


def test_a_text_without_two_words_together_has_nothing_for_glove(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n\n".join(["alone", "apart", "single"] * 4), encoding="utf-8")
    with pytest.raises(BadInput, match="come together"):
        run(path, tmp_path / "run", "glove", data={"eval": None}, objective={"dimensions": 1})


def test_an_average_of_weights_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="ema"):
        run(text, tmp_path / "run", "word2vec", train={"ema": 0.9})


def test_other_data_than_the_snapshots_are_not_gone_on_with(text: Path, tmp_path: Path) -> None:
    run(text, tmp_path / "run", "word2vec")
    with pytest.raises(BadRecipe, match=r"objective\.window"):
        run(text, tmp_path / "run", "word2vec", resume=True, objective={"window": 3})


@pytest.mark.parametrize("method", METHODS)
def test_the_commands_recipe_is_one(method: Method) -> None:
    made = parse_recipe(Wanted(["text.txt"], method=method, eval=0.02).recipe())
    assert made.stage == "vectors"
    assert made.objective.options["dimensions"] == 100


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("data", "share", 0.5),
        ("optimizer", "name", "muon"),
        ("optimizer", "weight_decay", 0.01),
        ("optimizer", "clip", 0.5),
        ("train", "batch_tokens", 4096),
    ],
)
def test_a_key_that_only_other_tasks_read_is_refused(
    text: Path, tmp_path: Path, table: str, key: str, value: object
) -> None:
    with pytest.raises(BadRecipe, match=f"{table}.{key}"):
        run(text, tmp_path / "run", "word2vec", **{table: {key: value}})


def test_a_recipe_without_an_objective_learns_what_the_command_does(text: Path, tmp_path: Path) -> None:
    values = recipe(text, tmp_path / "run", "word2vec")
    objective = values["objective"]
    assert isinstance(objective, dict)
    del objective["name"]
    done = kun.load(train(parse_recipe(values), "vectors").checkpoint)
    assert isinstance(done, WordVectors)
    assert done.config["method"] == "word2vec"


def test_tables_that_no_memory_has_room_for_are_refused_before_they_are_made(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kun.wordvectors.training.memory", lambda: (2**30, 2**10))
    with pytest.raises(NoMemory, match=r"objective\.max_words"):
        run(text, tmp_path / "run", "word2vec")


def test_a_text_to_measure_on_of_which_nothing_is_left_is_told_of(text: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart.txt"
    apart.write_text("words that nobody knows", encoding="utf-8")
    with pytest.raises(BadInput, match=r"data\.eval"):
        run(text, tmp_path / "run", "word2vec", data={"eval": str(apart)})


@pytest.mark.parametrize("name", ["learned.pairs", "learned.done"])
def test_counts_that_were_damaged_are_counted_anew(
    text: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(text, tmp_path / "whole", "glove")
    step, taken = Loop._step, 0

    def interrupted(loop: Loop) -> None:  # type: ignore[type-arg]
        nonlocal taken
        taken += 1
        if taken == 8:
            raise RuntimeError("the machine went down")
        step(loop)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(RuntimeError, match="went down"):
        run(text, tmp_path / "run", "glove")
    monkeypatch.undo()
    damaged(tmp_path / "run" / "data" / "pairs" / name, 0)
    again = run(text, tmp_path / "run", "glove", resume=True)
    assert told(again) == told(whole)


def test_a_vocabulary_that_was_damaged_is_named(text: Path, tmp_path: Path) -> None:
    run(text, tmp_path / "run", "word2vec")
    folder = tmp_path / "run" / "data" / "words"
    held = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    held["counts"][0] += 1
    (folder / "vocabulary.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(DamagedFile, match="digest"):
        open_corpus(folder)
