"""The LSTM: one state from token to token, whether a text is read at once or step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.families import family_of
from kun.families.lstm import LSTM, LSTMConfig
from kun.networks.network import load_state


def _net(**changes):
    torch.manual_seed(0)
    return LSTM(LSTMConfig(**{"vocab_size": 50, "d_model": 16, "n_layers": 2, **changes})).eval()


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    first=st.integers(1, 11),
    seed=st.integers(0, 9),
)
def test_steps_over_a_cache_read_as_a_whole_text_is_read(lengths, first, seed):
    net = _net()
    torch.manual_seed(seed)
    texts = [torch.randint(0, 50, (length,)) for length in lengths]
    state = net.new_state(16, 4, torch.float32, torch.device("cpu"))
    tables = [[4 * row + page for page in range(3)] for row in range(len(texts))]
    rows = [state.start(text.tolist()) for text in texts]
    before, said = [0] * len(texts), [[] for _ in texts]
    while any(done < len(text) for done, text in zip(before, texts, strict=True)):
        going = [row for row, text in enumerate(texts) if before[row] < len(text)]
        counts = [min(first if before[row] == 0 else 1, len(texts[row]) - before[row]) for row in going]
        ids = torch.cat(
            [texts[row][before[row] : before[row] + n] for row, n in zip(going, counts, strict=True)]
        )
        step = state.step(
            [rows[row] for row in going],
            [tables[row] for row in going],
            [before[row] for row in going],
            counts,
        )
        with torch.no_grad():
            logits = net(ids[None], cache=step).logits[0].split(counts)
        for row, n, part in zip(going, counts, logits, strict=True):
            before[row] += n
            said[row].append(part)
    for text, parts in zip(texts, said, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(torch.cat(parts), net(text[None]).logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_a_config_and_weights_read_back(tied):
    net = _net(tied=tied)
    hf = net.config.to_hf()
    again = family_of(hf).network(family_of(hf).config.from_hf(hf))
    load_state(again, again.names.ours(net.names.reference(net.state_dict())))
    ids = torch.arange(10)[None]
    assert torch.equal(again.eval()(ids).logits, net(ids).logits)


def test_a_size_that_cannot_be_is_named():
    with pytest.raises(BadInput, match="d_model"):
        LSTMConfig.from_hf({"model_type": "lstm", "d_model": 0})
