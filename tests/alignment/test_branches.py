"""Several answers to one prompt in one pass: each is read as if it stood alone with the prompt."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.alignment.branches import ROW, Tree, grown, planted, states_at
from kun.errors import BadInput
from kun.families.bloom import Bloom, BloomConfig
from kun.families.glm import GLM, GLMConfig
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.llama.config import LlamaConfig
from kun.families.llama.llama import Llama
from kun.families.lstm import LSTM, LSTMConfig
from kun.models.batching import BATCH_TOKENS
from kun.training.log_probs import token_log_probs

SMALL = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2}


def _networks():
    torch.manual_seed(0)
    yield "gpt2", GPT(GPTConfig(**SMALL, d_ff=64, max_positions=64))
    yield "banded", GPT(GPTConfig(**SMALL, d_ff=64, max_positions=64, pattern=("local",), window=3))
    yield "llama", Llama(LlamaConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64))
    yield "bloom", Bloom(BloomConfig(**SMALL))
    yield "glm", GLM(GLMConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64, max_positions=64))


NETWORKS = dict(_networks())


def tree(trunk: int, branches: list[int], seed: int = 0) -> Tree:
    rng = np.random.default_rng(seed)

    def draw(length: int) -> np.ndarray:
        return rng.integers(0, 64, length).astype(np.int32)

    return Tree(
        draw(trunk),
        tuple(draw(length) for length in branches),
        tuple(np.ones(length, np.bool_) for length in branches),
    )


TREES = st.lists(
    st.tuples(st.integers(0, 7), st.lists(st.integers(1, 6), min_size=1, max_size=4)), min_size=1, max_size=4
)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=15)
@given(shapes=TREES, row=st.integers(1, 60))
def test_an_answer_is_read_as_if_it_stood_alone_with_its_prompt(name, shapes, row):
    net = NETWORKS[name].eval()
    trees = [tree(trunk, branches, seed) for seed, (trunk, branches) in enumerate(shapes)]
    batch = planted(trees, row)
    with torch.no_grad():
        states = net.states(batch["input_ids"], batch["attention_mask"])
        ends = states_at(states, batch["ends"])
        found = token_log_probs(net.head, states_at(states, batch["places"]), batch["targets"]).values
    number = 0
    for one in trees:
        for branch in one.branches:
            ids = torch.from_numpy(np.concatenate([one.trunk, branch]).astype(np.int64))
            with torch.no_grad():
                alone = net.states(ids[None])[0]
                log_p = net.head(alone).log_softmax(-1)
            torch.testing.assert_close(ends[number], alone[-1], atol=1e-5, rtol=1e-5)
            first = max(1, len(one.trunk))
            wanted = log_p[first - 1 : -1].gather(1, ids[first:, None])[:, 0]
            torch.testing.assert_close(found[batch["branch"] == number], wanted, atol=1e-4, rtol=1e-4)
            number += 1


def test_the_prompt_goes_through_once():
    batch = planted([tree(40, [5, 5, 5, 5])])
    assert batch["input_ids"].shape == (1, 60)


def test_trees_fill_rows_and_the_largest_makes_them_longer():
    batch = planted([tree(10, [5, 5]), tree(10, [10]), tree(3, [2])], row=25)
    assert batch["input_ids"].shape == (2, 25)
    assert planted([tree(30, [5])], row=8)["input_ids"].shape == (1, 35)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 60), st.lists(st.integers(0, 5), min_size=1, max_size=9)),
        min_size=1,
        max_size=12,
    )
)
def test_rows_that_begin_alike_are_trees_of_which_no_row_is_lost(kinds):
    rows = [[kind] * begin + end for kind, begin, end in kinds]
    trees = grown(rows)
    assert [number for _, some in trees for number in some] == list(range(len(rows)))
    for one, some in trees:
        assert [[*one.trunk, *branch] for branch in one.branches] == [rows[number] for number in some]
        assert all(len(branch) for branch in one.branches)
    assert sum(one.size for one, _ in trees) <= sum(map(len, rows))


def test_answers_to_one_prompt_grow_from_it_and_others_from_their_own():
    prompt, other = list(range(40)), list(range(30, 0, -1))
    rows = [[*prompt, 1, 2], [*prompt, 3], [*prompt, 1, 9], [*other, 7], [*other, 8], [5, 6]]
    assert [(len(one.trunk), list(some)) for one, some in grown(rows)] == [
        (40, [0, 1, 2]),
        (30, [3, 4]),
        (0, [5]),
    ]


def test_trees_stay_small_however_many_rows_begin_alike():
    rng = np.random.default_rng(0)
    begin = list(range(24))
    rows = [begin + rng.integers(24, 64, 200).tolist() for _ in range(300)]
    made = grown(rows)
    assert [number for _, some in made for number in some] == list(range(300))
    assert max(one.size for one, _ in made) <= ROW
    prompt = rng.integers(0, 64, 300).tolist()
    answers = [prompt + rng.integers(0, 64, 48).tolist() for _ in range(16)]
    [(one, some)] = grown(answers)  # what is long and shared is read once for many
    assert len(one.trunk) >= 300
    assert some == range(16)
    long = [[*range(40)] * 100 + rng.integers(0, 64, 48).tolist() for _ in range(4)]
    assert all(one.size <= BATCH_TOKENS or len(some) == 1 for one, some in grown(long))


def test_only_what_is_learned_is_predicted_and_never_a_first_token():
    one = Tree(
        np.array([], np.int32),
        (np.array([1, 2, 3], np.int32),),
        (np.array([True, False, True]),),
    )
    batch = planted([one])
    assert batch["targets"].tolist() == [3]
    assert batch["places"].tolist() == [[0, 1]]


def test_a_network_that_reads_serially_refuses_branches():
    batch = planted([tree(3, [2, 2])])
    lstm = LSTM(LSTMConfig(vocab_size=64, d_model=32, n_layers=2))
    with pytest.raises(BadInput, match="attention_mask has shape"):
        lstm.states(batch["input_ids"], batch["attention_mask"])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_of_tokens_and_their_gradients_are_those_written_down(temperature, monkeypatch):
    monkeypatch.setattr("kun.training.cross_entropy._MOST_LOGITS", 3 * 20)  # three rows at a time
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 20, bias=False)
    states, targets = torch.randn(7, 8, requires_grad=True), torch.randint(0, 20, (7,))
    weights = torch.randn(7)
    made = token_log_probs(head, states, targets, temperature=temperature)
    gradients = torch.autograd.grad((made.values * weights).sum(), [states, head.weight])
    log_p = (head(states) / temperature).log_softmax(-1)
    written = log_p.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(made.values, written)
    torch.testing.assert_close(made.entropies, -(log_p.exp() * log_p).sum(-1).detach())
    for mine, theirs in zip(
        gradients, torch.autograd.grad((written * weights).sum(), [states, head.weight]), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
