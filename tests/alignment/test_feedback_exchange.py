"""Feedback from files and into them: once is enough, faults are counted with their places, votes become a recipe."""

import json

import pytest
from feedback_people import fill, said, user

from kun.alignment.feedback.exchange import export_file, import_file, import_prompts, rankings
from kun.alignment.feedback.reward_recipe import prepare
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Thumb, Vote
from kun.data.preference_shapes import SHAPES
from kun.data.rows import Ranking
from kun.data.sources import Rows
from kun.errors import BadInput, NotFound, UnsupportedFormat
from kun.training.recipe import read_recipe


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "kun.db")


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


PAIRS = [{"prompt": f"q{n}", "chosen": "good", "rejected": f"bad {n}"} for n in range(3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_exported_in_any_shape_adds_nothing_when_it_is_imported_again(store, tmp_path, shape):
    assert import_file(store, lines(tmp_path / "pairs.jsonl", *PAIRS)).rankings == 3
    again = import_file(store, tmp_path / "pairs.jsonl")
    assert (again.rankings, again.known) == (0, 3)
    assert export_file(store, tmp_path / "out.jsonl", shape=shape).records == 3
    assert import_file(store, tmp_path / "out.jsonl").rankings == 0
    fresh = FeedbackStore(tmp_path / "fresh.db")
    assert import_file(fresh, tmp_path / "out.jsonl").rankings == 3
    assert list(map(repr, rankings(fresh))) == list(map(repr, rankings(store)))


def test_the_default_shape_is_prompt_chosen_and_rejected_as_lists_of_messages(store, tmp_path):
    import_file(store, lines(tmp_path / "pairs.jsonl", PAIRS[0]))
    export_file(store, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [
        {"prompt": list(user("q0")), "chosen": list(said("good")), "rejected": list(said("bad 0"))}
    ]


def test_rows_that_cannot_be_used_are_counted_with_file_and_line(store, tmp_path):
    rows = [
        PAIRS[0],
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"prompt": "q", "chosen": 5, "rejected": "x"},
        {"prompt": "q", "ranking": ["only one"]},
        {"prompt": "q", "ranking": ["a", [], "b"]},
    ]
    made = import_file(store, lines(tmp_path / "pairs.jsonl", *rows))
    assert (made.rankings, made.left_out) == (1, 4)
    told = "\n".join(made.examples)
    for line in (2, 3, 4, 5):
        assert f"pairs.jsonl:{line}" in told


def test_contradictory_pairs_are_counted_and_kept_or_dropped_as_told(store, tmp_path):
    rows = [*PAIRS, {"prompt": "q0", "chosen": "bad 0", "rejected": "good"}]
    assert import_file(store, lines(tmp_path / "pairs.jsonl", *rows)).contradictory == 1
    kept = export_file(store, tmp_path / "out.jsonl")
    assert (kept.records, kept.contradictory) == (4, 2)
    dropped = export_file(store, tmp_path / "out.jsonl", contradictory="drop")
    assert (dropped.records, dropped.contradictory) == (2, 2)


def test_a_dropped_pair_of_a_ranking_leaves_its_other_pairs(store, tmp_path):
    rows = [{"prompt": "q", "ranking": ["a", "b", "c"]}, {"prompt": "q", "chosen": "b", "rejected": "a"}]
    import_file(store, lines(tmp_path / "pairs.jsonl", *rows))
    export_file(store, tmp_path / "out.jsonl", shape="standard", contradictory="drop")
    found = [(row["chosen"], row["rejected"]) for row in read(tmp_path / "out.jsonl")]
    assert sorted(found) == [("a", "c"), ("b", "c")]


def test_conversations_become_demonstrations_and_come_out_as_messages(store, tmp_path):
    rows = [{"instruction": "Say hi", "input": "", "output": "Hi!"}]
    assert import_file(store, lines(tmp_path / "alpaca.jsonl", *rows), rater="ada").demonstrations == 1
    assert import_file(store, tmp_path / "alpaca.jsonl").known == 1
    export_file(store, tmp_path / "out.jsonl", kind="demonstrations")
    assert read(tmp_path / "out.jsonl") == [{"messages": [*user("Say hi"), *said("Hi!")]}]


def test_what_a_shape_has_no_place_for_is_left_out_and_counted(store, tmp_path):
    system = {"role": "system", "content": "S"}
    rows = [PAIRS[0], {"prompt": [system, *user("q")], "chosen": "good", "rejected": "bad"}]
    assert import_file(store, lines(tmp_path / "a.jsonl", PAIRS[0])).rankings == 1
    assert import_file(store, lines(tmp_path / "b.jsonl", rows[1])).rankings == 1
    made = export_file(store, tmp_path / "out.jsonl", shape="hh")
    assert (made.records, made.left_out) == (1, 1)
    assert "system" in made.examples[0]


def test_nothing_to_export_and_nothing_to_import_are_errors(store, tmp_path):
    with pytest.raises(BadInput, match="no preferences to export"):
        export_file(store, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(NotFound):
        import_file(store, tmp_path / "nowhere.jsonl")
    with pytest.raises(UnsupportedFormat):
        import_file(store, lines(tmp_path / "odd.jsonl", {"colour": "blue"}))


@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("a.txt", "First?\n\n 第二个？ \n", ["First?", "第二个？"]),
        ("a.jsonl", '{"prompt": "First?"}\n{"question": "Second?"}\n', ["First?", "Second?"]),
        ("b.jsonl", '{"question_id": 1, "category": "x", "turns": ["First?", "Then?"]}\n', ["First?"]),
        ("c.jsonl", '{"instruction": "Do", "input": "it", "output": "Done"}\n', ["Do\n\nit"]),
        ("d.jsonl", '{"prompt": "P", "chosen": "a", "rejected": "b"}\n', ["P"]),
        ("e.jsonl", '{"instruction": "Do", "input": "it"}\n', ["Do\n\nit"]),
        ("f.jsonl", '{"prompt": [{"role": "user", "content": "P"}]}\n', ["P"]),
        ("g.jsonl", json.dumps({"messages": [*user("P"), *said("a"), *user("Q")]}), ["Q"]),
        ("h.jsonl", json.dumps({"messages": [*user("P"), *said("a")]}), ["P"]),
        ("i.jsonl", '{"prompt": "P", "completion": "a", "label": false}\n', ["P"]),
    ],
)
def test_prompts_come_from_texts_line_by_line_and_from_rows_of_any_format(store, tmp_path, name, text, asked):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert import_prompts(store, tmp_path / name).prompts == len(asked)
    assert [prompt.messages[-1]["content"] for prompt in store.prompts(waiting=True)] == asked
    again = import_prompts(store, tmp_path / name)
    assert (again.prompts, again.known) == (0, len(asked))


def test_thumbs_on_answers_to_one_prompt_are_a_preference_and_all_are_exported(store, tmp_path):
    for message, (value, answer) in enumerate([(1, "good"), (-1, "bad"), (-1, "worse")]):
        store.thumb(Thumb(str(message), "ada", value, user("q"), answer, "m"))
    store.thumb(Thumb("other", "ada", 1, user("another"), "alone", "m"))
    assert list(rankings(store)) == [
        Ranking(user("q"), ((said("good"),), (said("bad"), said("worse"))), "thumbs")
    ]
    assert export_file(store, tmp_path / "out.jsonl", kind="thumbs").records == 4
    assert [row["label"] for row in read(tmp_path / "out.jsonl")] == [True, False, False, True]


def test_what_follows_a_conversation_is_part_of_the_prompt(store, tmp_path):
    talk = [{"role": "system", "content": "S"}, *user("P"), *said("a"), *user("Q")]
    import_prompts(store, lines(tmp_path / "talk.jsonl", {"messages": talk}))
    assert [list(prompt.messages) for prompt in store.prompts()] == [talk]


def test_a_file_without_a_prompt_names_its_first_bad_row(store, tmp_path):
    rows = [{"instruction": " "}, {"colour": "blue"}]
    with pytest.raises(BadInput, match=r"prompts.jsonl:1: 'instruction' is empty"):
        import_prompts(store, lines(tmp_path / "prompts.jsonl", *rows))


JUDGED = [("q", "good", True), ("q", "bad", False), ("r", "good", True)]
UNPAIRED = {
    "standard": [{"prompt": q, "completion": a, "label": good} for q, a, good in JUDGED],
    "conversational": [
        {"prompt": list(user(q)), "completion": list(said(a)), "label": good} for q, a, good in JUDGED
    ],
}


@pytest.mark.parametrize("shape", UNPAIRED)
def test_answers_with_a_label_of_true_or_false_are_thumbs_and_come_out_as_they_went_in(
    store, tmp_path, shape
):
    file = lines(tmp_path / "thumbs.jsonl", *UNPAIRED[shape])
    first, again = (import_file(store, file, rater="ada") for _ in range(2))
    assert (first.thumbs, first.demonstrations, first.known) == (3, 0, 0)
    assert (again.thumbs, again.known) == (0, 3)
    assert store.demonstrations() == []
    assert {thumb.rater for thumb in store.thumbs()} == {"ada"}
    assert list(rankings(store)) == [Ranking(user("q"), ((said("good"),), (said("bad"),)), "thumbs")]
    export_file(store, tmp_path / "out.jsonl", kind="thumbs")
    assert read(tmp_path / "out.jsonl") == UNPAIRED["conversational"]
    assert import_file(store, tmp_path / "out.jsonl", rater="ada").known == 3


def test_a_thumb_up_and_one_down_on_an_answer_of_a_file_are_both_kept(store, tmp_path):
    rows = [{"prompt": "q", "completion": "a", "label": good} for good in (True, False)]
    assert import_file(store, lines(tmp_path / "thumbs.jsonl", *rows)).thumbs == 2
    assert sorted(thumb.value for thumb in store.thumbs()) == [-1, 1]


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def test_a_demonstration_keeps_the_tools_that_could_be_called_and_what_was_called_before_it(store, tmp_path):
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    talk = [*user("Deep?"), calling, {"role": "tool", "content": "deep"}, *said("It is deep.")]
    rows = [{"messages": talk, "tools": TOOLS}, {"messages": [*user("Wide?"), calling], "tools": TOOLS}]
    made = import_file(store, lines(tmp_path / "talks.jsonl", *rows))
    assert (made.demonstrations, made.left_out) == (1, 1)
    assert "talks.jsonl:2: its last answer calls a tool" in made.examples[0]
    export_file(store, tmp_path / "out.jsonl", kind="demonstrations")
    assert read(tmp_path / "out.jsonl") == [rows[0]]
    assert import_file(store, tmp_path / "out.jsonl").known == 1


def test_a_reward_model_is_one_recipe_away_from_the_votes(store, tmp_path):
    with pytest.raises(BadInput, match="2 prompts or more"):
        prepare(store, tmp_path / "reward", "base")
    for id in fill(store, 3):
        store.save(Vote(id, "ada", ranks=(0, 1, 1)))
    made = prepare(store, tmp_path / "reward", 'a "base"')
    recipe = read_recipe(made.recipe)
    assert (recipe.stage, recipe.model.source) == ("reward", 'a "base"')
    rows = list(Rows(recipe.data.train))
    assert [row.ranks for row in rows] == [(0, 1, 1)] * 3
    assert made.command == f"kun train {made.recipe}"


@pytest.mark.parametrize(("prompts", "epochs", "batch"), [(20, 3, 1), (120, 3, 6), (320, 1, 5)])
def test_few_rankings_are_cut_into_enough_steps_to_learn_from(store, tmp_path, prompts, epochs, batch):
    with store.together():
        for id in fill(store, prompts):
            store.save(Vote(id, "ada", ranks=(0, 1, 1)))
    train = read_recipe(prepare(store, tmp_path, "base").recipe).train
    assert (train.epochs, train.batch) == (epochs, batch)
