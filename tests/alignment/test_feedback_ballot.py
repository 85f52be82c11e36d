"""A ballot: keys for everything, drags that tie, flags, a vote back out of an undone one; agreement and bias."""

import pytest
from feedback_people import said, user
from hypothesis import given
from hypothesis import strategies as st

from kun.alignment.feedback.agreement import agreement_of, krippendorff, summary_of
from kun.alignment.feedback.ballot import Ballot
from kun.alignment.feedback.sampling import sample
from kun.alignment.feedback.votes import Item, Vote
from kun.errors import BadInput


def item(texts, shown=None, models=None, id="x"):
    answers = tuple(said(text) for text in texts)
    models = tuple(models or [""] * len(texts))
    return Item(id, user("q"), answers, models, tuple(shown or range(len(texts))))


def pressed(ballot, keys):
    return [ballot.key(key) for key in keys][-1]


@pytest.mark.parametrize(
    ("keys", "first"), [("a", True), ("1", True), ("A", True), ("b", False), ("2", False)]
)
def test_of_two_answers_one_key_names_the_better_one_and_saves(keys, first):
    ballot = Ballot(item(["l", "r"], shown=(1, 0)), "ada")
    assert pressed(ballot, keys) == "save"
    assert ballot.vote().ranks == (
        (1, 0) if first else (0, 1)
    )  # the first on the screen is the second stored


@pytest.mark.parametrize(
    ("keys", "ranks"),
    [
        ("321", (2, 1, 0)),
        ("3=12", (0, 1, 0)),
        ("1=2=3", (0, 0, 0)),
        ("12", (0, 1, 2)),
        ("1123", (2, 0, 1)),
    ],
)
def test_digits_rank_from_the_best_on_and_an_equal_sign_ties(keys, ranks):
    ballot = Ballot(item("abc"), "ada")
    action = pressed(ballot, keys)
    assert action == ("save" if ballot.is_whole else "changed")
    assert ballot.vote().ranks == ranks


def test_backspace_takes_back_the_last_answer_and_too_few_cannot_be_saved():
    ballot = Ballot(item("abc"), "ada")
    pressed(ballot, ["2", "1", "Backspace", "Backspace"])
    assert ballot.places == {}
    with pytest.raises(BadInput, match="3 answers have no place"):
        ballot.vote()


@pytest.mark.parametrize(
    ("key", "action", "verdict", "ranks"),
    [("t", "tie", "ranked", (0, 0, 0)), ("x", "bad", "bad", ()), ("S", "skip", "skipped", ())],
)
def test_there_are_keys_for_a_tie_for_all_bad_and_for_skipping(key, action, verdict, ranks):
    ballot = Ballot(item("abc"), "ada")
    assert ballot.key(key) == action
    vote = ballot.vote(action)
    assert (vote.verdict, vote.ranks) == (verdict, ranks)
    vote.checked(3)


def test_keys_that_mean_nothing_do_nothing():
    ballot = Ballot(item("abc"), "ada")
    assert [ballot.key(key) for key in ("4", "0", "a", "b", "F5", "q", "Tab", "Shift")] == [None] * 8
    assert ballot == Ballot(ballot.item, "ada")


def test_an_answer_is_dragged_to_a_place_and_a_place_may_hold_several_or_none():
    ballot = Ballot(item("abcd", shown=(3, 2, 1, 0)), "ada")
    for position, place in ((0, 3), (1, 0), (2, 3), (3, 1)):
        ballot.put(position, place)
    assert ballot.places == {0: 3, 1: 0, 2: 3, 3: 1}
    assert ballot.vote().ranks == (1, 2, 0, 2)
    with pytest.raises(BadInput, match="no answer 5"):
        ballot.put(4, 0)


def test_keys_fill_the_places_that_drags_left_free_and_an_equal_sign_joins_what_was_placed_last():
    ballot = Ballot(item("abcd"), "ada")
    ballot.put(2, 3)
    pressed(ballot, "4=1")
    assert ballot.places == {2: 3, 3: 0, 0: 0}
    assert ballot.key("Backspace") == "changed"
    pressed(ballot, "12")
    assert ballot.vote().ranks == (1, 2, 3, 0)


def test_flags_are_of_the_answer_that_was_chosen_and_a_second_time_takes_them_away():
    ballot = Ballot(item("abc", shown=(2, 0, 1)), "ada")
    pressed(ballot, ["ArrowRight", "h", "v", "ArrowLeft", "o", "o"])
    assert ballot.vote("bad").flags == {0: ("harmful", "untrue")}


def test_an_own_answer_alone_is_a_vote():
    vote = Ballot(item("ab"), "ada", correction=" mine ").vote()
    assert (vote.verdict, vote.correction) == ("bad", "mine")


@given(
    st.permutations(range(4)),
    st.lists(st.sampled_from(["1", "2", "3", "4", "=", "h", "ArrowDown"]), max_size=9),
)
def test_a_ballot_made_of_its_vote_gives_the_same_vote(shown, keys):
    ballot = Ballot(item("abcd", shown), "ada", note="n", correction="c")
    for key in keys:
        ballot.key(key)
    try:
        vote = ballot.vote().checked(4)
    except BadInput:
        return
    assert Ballot.of(ballot.item, "ada", vote).vote() == vote


# Agreement and bias


def test_krippendorffs_alpha_is_that_of_his_own_example():
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), part C, with the metric of intervals."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in values if value is not None] for values in zip(*observers, strict=True)]
    assert krippendorff(units) == pytest.approx(0.849, abs=5e-4)


def votes(*ranks):
    found = item("abc")
    return [(found, Vote("x", f"rater {number}", ranks=each)) for number, each in enumerate(ranks)]


def test_people_who_say_the_same_agree_and_people_who_say_the_reverse_do_not():
    same = agreement_of(votes((0, 1, 2), (0, 1, 2)))
    assert (same.alpha, same.pairwise.share, same.items, same.people) == (1.0, 1.0, 1, 2)
    reverse = agreement_of(votes((0, 1, 2), (2, 1, 0)))
    assert reverse.alpha < 0
    assert reverse.pairwise.share == 0
    tie = agreement_of(votes((0, 1, 2), (0, 0, 1)))
    assert tie.pairwise.share == pytest.approx(2 / 3)
    assert reverse.alpha < tie.alpha < 1


def test_who_judged_the_same_answers_twice_is_one_person_whose_last_word_counts():
    shown = item("abc")
    first, second = (Vote("x", "ada", ranks=ranks) for ranks in ((0, 1, 2), (2, 1, 0)))
    assert agreement_of([(shown, first), (shown, second)]).pairwise is None
    with_bob = agreement_of([(shown, first), (shown, Vote("x", "bob", ranks=(2, 1, 0))), (shown, second)])
    assert (with_bob.pairwise.share, with_bob.pairwise.count, with_bob.people) == (1.0, 3, 2)


def test_agreement_of_one_person_or_on_ties_alone_is_not_known():
    assert agreement_of(votes((0, 1, 2))).alpha is None
    assert agreement_of(votes((0, 1, 2))).pairwise is None
    assert agreement_of(votes((0, 0, 0), (0, 0, 0))).alpha is None
    assert agreement_of([]).people == 0


def test_who_always_takes_the_first_or_the_longer_answer_is_seen():
    judged = []
    for number in range(10):
        order = (0, 1) if number % 2 else (1, 0)
        ranks = (0, 1) if order[0] == 0 else (1, 0)
        shown = item(["long and wide", "short"], order, ["m", "n"], id=str(number))
        judged.append((shown, Vote(str(number), "ada", ranks=ranks, shown=order)))
    summary = summary_of(judged)
    assert summary.first_wins.share == 1.0
    assert summary.longer_wins.share == 0.5
    assert summary.models["m"].share == 0.5
    always_longer = [(one, Vote(one.id, "ada", ranks=(0, 1), shown=one.shown)) for one, _ in judged]
    assert summary_of(always_longer).longer_wins.share == 1.0
    assert summary_of(always_longer).first_wins.share == 0.5


def test_contradictory_pairs_are_counted():
    assert summary_of(votes((0, 1, 2), (0, 2, 1))).contradictory == 2
    assert summary_of(votes((0, 1, 2), (0, 1, 1))).contradictory == 0


# Answers to rate


class Said:
    def __init__(self, text):
        self.text = text


class Scripted:
    """A model that gives the texts of a list one after the other."""

    def __init__(self, name, texts):
        self.name, self.texts, self.seeds = name, list(texts), []

    def submit(self, prompt, options):
        self.seeds.append(options.seed)
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return [Said(text[:1]), Said(text[1:])]


def test_answers_are_sampled_of_models_in_turn_and_none_comes_twice():
    one, other = Scripted("one", ["a", "a", "b", "c"]), Scripted("other", ["x", "", "y", "z"])
    answers, models = sample([one, other], user("hi"), 4)
    texts = [answer[0]["content"] for answer in answers]
    assert len(set(texts)) == 4
    assert models == ["one" if text in "abc" else "other" for text in texts]
    assert len(set(one.seeds)) == len(one.seeds)


@pytest.mark.parametrize("texts", [["a"], [""]])
def test_a_model_that_always_says_the_same_or_nothing_is_told(texts):
    with pytest.raises(BadInput, match="temperature"):
        sample([Scripted("one", texts)], user("hi"), 3)


@pytest.mark.parametrize("count", [0, 1, 10])
def test_two_to_nine_answers_are_sampled(count):
    with pytest.raises(BadInput, match="2 to 9"):
        sample([Scripted("one", ["a", "b"])], user("hi"), count)
