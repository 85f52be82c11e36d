"""Questions made of documentation, and what of it is kept from learning."""

import json
from contextlib import closing

import pytest

from kun.alignment.feedback.store import FeedbackStore
from kun.data.documented import Documented
from kun.data.rows import ChatMessage, Ranking
from kun.data.sources import Rows
from kun.tour.speedrun import corpus
from kun.tour.speedrun.corpus import Files, write_corpus
from kun.tour.speedrun.preferences import clicked, write_preferences
from kun.tour.speedrun.questions import arguments_of, questions, share_of, summary_of


def _function(name, signature, doc):
    return Documented("function", name, name.rpartition(".")[0], signature, doc)


ENTRIES = [
    Documented("module", "zlib", "zlib", "", "Compression that everybody has."),
    _function(
        "zlib.adler32",
        "adler32(data, value=1, /)",
        "Compute an Adler-32 checksum of data.\n\n  data\n    ...",
    ),
    _function("zlib._hidden", "_hidden()", "Nobody is asked about what is private."),
    *(
        _function(
            f"json.verb{n}",
            f"verb{n}(a, *b, c=1, **d) -> int",
            f"Do the thing that has number {n}. And more.",
        )
        for n in range(200)
    ),
    *(
        Documented("function", f"math{n}.same", f"math{n}", "same(x)", f"Return the thing of module {n}.")
        for n in range(200)
    ),
]


def test_three_kinds_of_questions_are_asked_of_a_function():
    made = [one for one in questions(ENTRIES) if one.name == "zlib.adler32"]
    assert {(one.kind, one.question, one.answer) for one in made} == {
        ("purpose", "What does zlib.adler32 do?", "Compute an Adler-32 checksum of data."),
        (
            "purpose",
            "What does this function do?\n\nzlib.adler32(data, value=1, /)",
            "Compute an Adler-32 checksum of data.",
        ),
        ("arguments", "What arguments does zlib.adler32 take?", "data, value"),
        ("module", "Which module has adler32?", "zlib"),
    }


def test_nobody_is_asked_about_private_functions_or_where_a_common_name_stands():
    made = list(questions(ENTRIES))
    assert not any("_hidden" in one.name for one in made)
    assert not any(one.kind == "module" and one.name.endswith(".same") for one in made)


@pytest.mark.parametrize(
    ("doc", "summary"),
    [
        ("Return the mean\nof data. More.", "Return the mean of data."),
        ("Return the mean of data\n\nMore.", "Return the mean of data."),
        ("Short.", None),
        (">>> run(1)\n2 and so on", None),
        ("word " * 100, None),
        ("arccos(x, /, out=None[, where])\n\nInverse of a cosine.\n\nMore.", "Inverse of a cosine."),
        ("torch.abs(input) -> Tensor\n\nComputes what is absolute.", "Computes what is absolute."),
        ("nothing(but, a, signature)", None),
    ],
)
def test_a_summary_is_the_first_sentence_on_one_line(doc, summary):
    assert summary_of(doc) == summary


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ("f(a, /, b, *c, d=1, **e) -> int", ["a", "b", "*c", "d", "**e"]),
        ("f()", []),
        ("f(...)", None),
        ("f([x])", None),
        ("f(a", None),
    ],
)
def test_arguments_are_named_as_the_signature_has_them(signature, names):
    assert arguments_of(signature) == names


def test_a_name_decides_its_side_by_itself_on_every_machine():
    assert share_of("json.loads") == 0.3379081709852372
    shares = [share_of(f"module.verb{n}") for n in range(2000)]
    assert all(0 <= share < 1 for share in shares)
    assert len(set(shares)) == len(shares)
    for tenth in range(10):
        within = sum(tenth <= 10 * share < tenth + 1 for share in shares)
        assert 150 < within < 250


def test_what_is_held_out_is_learned_from_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "entries", lambda: iter(ENTRIES))
    monkeypatch.setattr(corpus, "_KNOWN", {entry.module for entry in ENTRIES})
    made = write_corpus(tmp_path, 10**9, asked=5, seed=1)
    files = Files(tmp_path)
    assert made.modules + made.held_out == 202
    assert made.held_out >= 1
    docs, held_out = files.docs.read_text(encoding="utf-8"), files.held_out.read_text(encoding="utf-8")
    for entry in ENTRIES:
        if entry.kind == "function":
            assert (entry.call in docs) != (entry.call in held_out)
    chats = _lines(files.chats)
    learned = {chat["messages"][0]["content"] for chat in chats}
    unseen, seen = _lines(files.unseen), _lines(files.seen)
    assert unseen
    assert not learned & {one["question"] for one in unseen}
    assert learned >= {one["question"] for one in seen}
    rewarded = {chat["messages"][0]["content"] for chat in _lines(files.prompts)}
    assert made.preferred == len(rewarded) > 0
    assert not rewarded & (learned | {one["question"] for one in unseen})
    held_out_prompts = {chat["messages"][0]["content"] for chat in _lines(files.held_out_prompts)}
    assert held_out_prompts
    assert not held_out_prompts & (learned | rewarded)
    for row in _lines(files.unseen_choices):
        assert row["answer"] in row["choices"]
        assert len(set(row["choices"])) == len(row["choices"])


def test_the_questions_asked_at_the_end_chose_no_weights_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "entries", lambda: iter(ENTRIES))
    monkeypatch.setattr(corpus, "_KNOWN", {entry.module for entry in ENTRIES})
    made = write_corpus(tmp_path, 10**9, asked=1000, seed=1)
    files = Files(tmp_path)
    write_preferences(files, [], seed=1)
    asked = {row["question"] for row in (*_lines(files.unseen), *_lines(files.unseen_choices))}
    assert asked
    assert made.unlearned >= len(asked)
    chats = {row["messages"][0]["content"] for row in _lines(files.held_out_chats)}
    prompts = {row["messages"][0]["content"] for row in _lines(files.held_out_prompts)}
    rankings = {row["prompt"] for row in _lines(files.held_out_preferences)}
    assert all((chats, prompts, rankings))
    assert not asked & (chats | prompts | rankings)


def test_without_a_file_the_rankings_are_those_that_people_gave_on_this_machine(bare_home):
    prompt: list[ChatMessage] = [{"role": "user", "content": "Which is better?"}]
    groups = [[[{"role": "assistant", "content": text}]] for text in ("this", "that")]
    with closing(FeedbackStore.open()) as store:
        store.add_ranked(prompt, groups, rater="ann")
    (found,) = clicked(None)
    assert [answer[0]["content"] for answer in found.answers] == ["this", "that"]


def test_the_right_answer_is_above_others_that_are_neither_always_longer_nor_shorter(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "entries", lambda: iter(ENTRIES))
    monkeypatch.setattr(corpus, "_KNOWN", {entry.module for entry in ENTRIES})
    write_corpus(tmp_path, 10**9, asked=5, seed=1)
    files = Files(tmp_path)
    vote = Ranking(
        ({"role": "user", "content": "a"},), tuple((({"role": "assistant", "content": c},),) for c in "bc")
    )
    made = write_preferences(files, [vote], seed=1)
    rows = list(Rows(files.preferences))
    assert (made.made, made.clicked) == (len(rows) - 1, 1)
    assert rows[-1].groups == vote.groups
    right = {chat["messages"][0]["content"]: chat["messages"][1]["content"] for chat in _lines(files.prompts)}
    lengths = []
    for row in rows[:-1]:
        best, *others = (answer[0]["content"] for answer in row.answers)
        assert best == right[row.prompt[0]["content"]]
        assert row.ranks == (0, *[1] * len(others))
        assert best not in others
        lengths += [len(other) - len(best) for other in others]
    assert min(lengths) < 0 < max(lengths)
    assert list(Rows(files.held_out_preferences))


def test_only_as_much_is_read_as_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "entries", lambda: iter(ENTRIES))
    few, all_ = (write_corpus(tmp_path, most, asked=2, seed=0) for most in (2000, 10**9))
    assert few.characters < 8000 < all_.characters


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
