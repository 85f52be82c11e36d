"""T5 and the Transformer: the reference's numbers, both ways, padded, packed and over a cache."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import SIZE, VOCAB, ours, tokens
from safetensors.torch import save_file
from torch import nn

from kun.blocks.positions import sinusoids
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.families.t5 import PRESETS as T5S
from kun.families.t5 import T5
from kun.families.transformer import PRESETS as TRANSFORMERS
from kun.families.transformer import Transformer, TransformerConfig
from kun.networks.network import load_state

Pair = tuple[nn.Module, nn.Module]
PAGE, START = 4, VOCAB - 1


def t5_config(**changes: Any) -> transformers.T5Config:
    sizes = {"d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4, "initializer_factor": 2.0}
    ids = {"decoder_start_token_id": START, "pad_token_id": START}
    return transformers.T5Config(vocab_size=VOCAB, d_model=SIZE, **(sizes | ids | changes))


def marian_config(**changes: Any) -> transformers.MarianConfig:
    both = {"layers": 3, "attention_heads": 4, "ffn_dim": 96}
    sizes = {f"{side}_{name}": size for name, size in both.items() for side in ("encoder", "decoder")}
    sizes |= {"max_position_embeddings": 64, "init_std": 0.2, "activation_function": "relu"}
    ids = {"decoder_start_token_id": START, "pad_token_id": START}
    return transformers.MarianConfig(vocab_size=VOCAB, d_model=SIZE, **(sizes | ids | changes))


CONFIGS: dict[str, Any] = {
    "t5": t5_config(),
    "t5-v1.1": t5_config(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5-wide-heads": t5_config(d_kv=32, num_decoder_layers=1, relative_attention_num_buckets=8,
                               relative_attention_max_distance=20),
    "transformer": marian_config(scale_embedding=True),
    "transformer-uneven": marian_config(activation_function="swish", decoder_layers=1,
                                        decoder_attention_heads=8, decoder_ffn_dim=48),
}  # fmt: skip


def reference(name: str) -> nn.Module:
    torch.manual_seed(3)
    config = CONFIGS[name]
    way = "eager" if name.startswith("t5") else "sdpa"  # the bias has no other way
    net = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation=way)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    if name == "t5-v1.1":
        net.lm_head.weight = nn.Parameter(torch.randn(VOCAB, SIZE) * 0.2)
    if name.startswith("transformer"):
        net.final_logits_bias.normal_()
    return net.eval()


@pytest.fixture(params=list(CONFIGS), scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    theirs = reference(request.param)
    return theirs, ours(theirs)


@torch.no_grad()
def test_a_padded_batch_gives_the_reference_logits(pair: Pair) -> None:
    theirs, mine = pair
    ids, written, mask = tokens(3, 40), tokens(3, 20), torch.ones(3, 40, dtype=torch.long)
    mask[0, 31:] = 0
    wanted = theirs(ids, attention_mask=mask, decoder_input_ids=written)
    got = mine(ids, mask, written)
    assert torch.allclose(got.logits, wanted.logits, atol=1e-4)
    states = got.encoder_last_hidden_state
    assert torch.allclose(states[mask.bool()], wanted.encoder_last_hidden_state[mask.bool()], atol=1e-4)
    again = mine(attention_mask=mask, decoder_input_ids=written, encoder_last_hidden_state=states)
    assert torch.equal(again.logits, got.logits)


@torch.no_grad()
def test_logits_are_what_the_head_makes_of_the_states_at_the_wanted_places(pair: Pair) -> None:
    _, mine = pair
    ids, written = tokens(2, 9), tokens(2, 7)
    states = mine.states(ids, None, written)
    assert states.shape == (2, 7, SIZE)
    assert torch.equal(mine(ids, None, written).logits, mine.head(states))
    wanted = torch.tensor([6, 2])
    assert torch.equal(mine(ids, None, written, logits_at=wanted).logits, mine.head(states[:, wanted]))
    again = mine.states(None, None, written, encoder_last_hidden_state=mine.encode(ids))
    assert torch.equal(again, states)
    with pytest.raises(BadInput, match="has no experts"):
        mine(ids, None, written, output_router_logits=True)


@torch.no_grad()
def test_cached_steps_over_sources_of_several_lengths_equal_one_uncached_pass(pair: Pair) -> None:
    """Rows join late, share a source, write in pieces, and leave."""
    _, mine = pair
    sources, written = [tokens(1, length) for length in (17, 5, 30)], tokens(4, 12)
    of = [0, 1, 2, 1]
    whole = [mine(sources[of[row]], None, written[row : row + 1]).logits[0] for row in range(4)]
    state = mine.new_state(32, PAGE, torch.float32, torch.device("cpu"))
    starts = [state.start(source[0].tolist()) for source in sources]
    assert starts[0].tokens == [START]
    tables = [[3 * row, 3 * row + 1, 3 * row + 2] for row in range(4)]
    done = [0] * 4
    for counts in ([3, 1, 0, 0], [1, 1, 1, 1], [2, 2, 4, 2], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 4]):
        rows = [row for row, count in enumerate(counts) if count]
        step = state.step(
            [starts[of[row]] for row in rows],
            [tables[row] for row in rows],
            [done[row] for row in rows],
            [counts[row] for row in rows],
        )
        packed = torch.cat([written[row, done[row] : done[row] + counts[row]] for row in rows])[None]
        wanted = torch.cat([whole[row][done[row] : done[row] + counts[row]] for row in rows])
        assert torch.allclose(mine(packed, cache=step).logits[0], wanted, atol=1e-4)
        done = [before + count for before, count in zip(done, counts, strict=True)]
    assert [start.unread for start in starts] == [0, 0, 0]


@torch.no_grad()
def test_padding_on_either_side_of_source_and_answer_changes_nothing(pair: Pair) -> None:
    _, mine = pair
    ids, written = tokens(1, 9), tokens(1, 7)
    alone = mine(ids, None, written).logits
    for left, right in ((0, 5), (4, 0), (3, 2)):
        pad = (left, right)
        padded, mask = (nn.functional.pad(x, pad) for x in (ids, torch.ones_like(ids)))
        answer, seen = (nn.functional.pad(x, pad) for x in (written, torch.ones_like(written)))
        among = mine(padded, mask, answer, seen).logits
        assert torch.allclose(among[:, left : left + 7], alone, atol=1e-4)
        assert torch.isfinite(among).all()


def test_a_source_that_is_all_padding_gives_no_nan_not_even_in_gradients(pair: Pair) -> None:
    _, mine = pair
    mask = torch.tensor([[0] * 6, [1] * 6])
    mine.zero_grad()
    out = mine(tokens(2, 6), mask, tokens(2, 4), torch.tensor([[0] * 4, [1] * 4])).logits
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in mine.parameters() if p.grad is not None)


def test_gradients_are_the_reference_gradients(pair: Pair) -> None:
    theirs, mine = pair
    ids, written = tokens(2, 24), tokens(2, 15)
    weights = torch.randn(2, 15, VOCAB, generator=torch.Generator().manual_seed(1))
    for net in pair:
        net.zero_grad()
        (net(input_ids=ids, decoder_input_ids=written).logits * weights).mean().backward()
    named = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    got = mine.names.reference({name: p.grad for name, p in mine.named_parameters()})
    assert got.keys() == named.keys()
    for name, gradient in named.items():
        assert torch.allclose(got[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


@torch.no_grad()
def test_what_we_save_the_reference_loads_and_computes_alike(pair: Pair, tmp_path: Path) -> None:
    theirs, mine = pair
    state = {name: t.contiguous() for name, t in mine.names.reference(mine.state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(mine.config.to_hf()))
    loaded, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation=theirs.config._attn_implementation
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, written = tokens(2, 30), tokens(2, 11)
    wanted = loaded.eval()(ids, decoder_input_ids=written).logits
    assert torch.allclose(mine(ids, None, written).logits, wanted, atol=1e-4)
    assert type(mine.config).from_hf(mine.config.to_hf()) == mine.config


@torch.no_grad()
def test_logits_can_be_had_for_some_tokens_alone(pair: Pair) -> None:
    _, mine = pair
    ids, written, at = tokens(1, 12), tokens(1, 9), torch.tensor([8, 3])
    wanted = mine(ids, None, written).logits[:, at]
    assert torch.allclose(mine(ids, None, written, logits_at=at).logits, wanted, atol=1e-5)


def test_bad_input_is_named(pair: Pair) -> None:
    _, mine = pair
    with pytest.raises(BadInput, match=f"{VOCAB} is outside the vocabulary of {VOCAB}"):
        mine(torch.tensor([[VOCAB]]), None, tokens(1, 2))
    with pytest.raises(BadInput, match="either"):
        mine(tokens(1, 2))
    with pytest.raises(BadInput, match="attention_mask has shape"):
        mine(tokens(1, 3), torch.ones(1, 4), tokens(1, 2))
    state = mine.new_state(2, PAGE, torch.float32, torch.device("cpu"))
    with pytest.raises(BadInput, match="0 tokens; this network reads 1 to"):
        state.start([])
    with pytest.raises(BadInput, match="knows its sources"):
        mine(tokens(1, 2), cache=state.cache.step([[0]], [0], [2]))


def test_a_transformer_s_positions_end_where_its_table_does() -> None:
    mine = ours(reference("transformer"))
    mine(tokens(1, 64), None, tokens(1, 64))
    for source, answer in ((65, 3), (3, 65)):
        with pytest.raises(BadInput, match="beyond the 64 positions"):
            mine(tokens(1, source), None, tokens(1, answer))


@torch.no_grad()
def test_each_block_is_torch_s_own() -> None:
    """Encoder and decoder layer against `torch.nn.Transformer`'s, with the same weights."""
    config = TransformerConfig(d_model=SIZE, n_layers=2, n_decoder_layers=2, n_heads=4, n_decoder_heads=4, d_ff=96,
                               d_decoder_ff=96, vocab_size=VOCAB)  # fmt: skip
    mine = Transformer(config).eval()
    theirs = nn.Transformer(SIZE, 4, 2, 2, 96, batch_first=True).eval()
    theirs.encoder.norm = theirs.decoder.norm = None  # the paper has none after the last layer
    state = {}
    for name, tensor in mine.state_dict().items():
        side, _, rest = name.partition(".")
        if side not in ("encoder", "decoder"):
            continue
        norms = {
            "attention_norm": "norm1",
            "cross_norm": "norm2",
            "mlp_norm": "norm2" if side == "encoder" else "norm3",
        }
        parts = {"attention.o": "self_attn.out_proj", "cross.o": "multihead_attn.out_proj"}
        parts |= {"mlp.up": "linear1", "mlp.down": "linear2"} | norms
        for old, new in parts.items():
            rest = rest.replace(old, new)
        state[f"{side}.layers.{rest}"] = tensor
    for side in ("encoder", "decoder"):
        for layer in range(2):
            for ours_, theirs_ in (("attention", "self_attn"), ("cross", "multihead_attn")):
                for kind in ("weight", "bias"):
                    parts_ = [state.pop(f"{side}.layers.{layer}.{ours_}.{p}.{kind}", None) for p in "qkv"]
                    if parts_[0] is not None:
                        state[f"{side}.layers.{layer}.{theirs_}.in_proj_{kind}"] = torch.cat(parts_)
    theirs.load_state_dict(state)
    ids, written = tokens(2, 13), tokens(2, 8)
    placed = [mine.embed(x) * SIZE**0.5 + sinusoids(torch.arange(x.shape[1]), SIZE) for x in (ids, written)]
    wanted = theirs(*placed, tgt_mask=nn.Transformer.generate_square_subsequent_mask(8), tgt_is_causal=True)
    got = mine(ids, None, written)
    assert torch.allclose(got.logits, mine.head(wanted), atol=1e-4)


def test_sinusoids_are_the_paper_s_and_tell_every_place() -> None:
    table = sinusoids(torch.arange(2048), 64)
    for place, i in ((0, 0), (7, 3), (100, 31)):
        angle = place / 10000 ** (2 * i / 64)
        assert table[place, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[place, 32 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.01


PARAMETERS = {
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "t5-v1_1-small": 76_961_152,
    "t5-v1_1-base": 247_577_856,
    "t5-v1_1-large": 783_150_080,
    "t5-v1_1-xl": 2_849_757_184,
    "t5-v1_1-xxl": 11_135_332_352,
    "transformer-base": 63_082_496,
    "transformer-big": 214_245_376,
    "opus-mt-en-de": 73_886_208,
}
PUBLISHED = {"t5-small": 60e6, "t5-base": 220e6, "t5-large": 770e6, "t5-3b": 2.8e9, "t5-11b": 11e9}
PUBLISHED |= {"transformer-base": 65e6, "transformer-big": 213e6}


@pytest.mark.parametrize("name", [*T5S, *TRANSFORMERS])
def test_published_sizes_have_the_published_number_of_parameters(name: str) -> None:
    config = (T5S | TRANSFORMERS)[name]
    with torch.device("meta"):
        net = (T5 if name in T5S else Transformer)(config)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == PARAMETERS[name]
    assert count == pytest.approx(PUBLISHED.get(name, count), rel=0.05)
    assert type(config).from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("t5", "d_kv", 0),
        ("t5", "num_layers", "6"),
        ("t5", "feed_forward_proj", "gated-relu-gelu"),
        ("t5", "feed_forward_proj", "mish"),
        ("t5", "relative_attention_num_buckets", 30),
        ("t5", "relative_attention_max_distance", 16),
        ("t5", "decoder_start_token_id", VOCAB),
        ("transformer", "decoder_attention_heads", 7),
        ("transformer", "encoder_ffn_dim", -1),
        ("transformer", "pad_token_id", VOCAB),
        ("transformer", "max_position_embeddings", 0),
    ],
)
def test_an_impossible_size_is_an_error_that_names_the_field(name: str, field: str, value: Any) -> None:
    config = CONFIGS[name].to_dict() | {field: value}
    with pytest.raises(BadInput, match=field):
        family_of(config).config.from_hf(config)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("t5", "is_encoder_decoder", False),
        ("transformer", "share_encoder_decoder_embeddings", False),
        ("transformer", "decoder_vocab_size", VOCAB + 1),
        ("transformer", "activation_function", "mish"),
    ],
)
def test_a_switch_that_we_lack_is_refused_not_ignored(name: str, field: str, value: Any) -> None:
    config = CONFIGS[name].to_dict() | {field: value}
    with pytest.raises(UnsupportedFormat, match=field):
        family_of(config).config.from_hf(config)


def test_wrong_weights_say_which_tensor(pair: Pair) -> None:
    _, mine = pair
    state = mine.state_dict()
    first = next(name for name in state if "cross.q" in name)
    with pytest.raises(DamagedFile, match=first):
        load_state(mine, {name: tensor for name, tensor in state.items() if name != first})
    with pytest.raises(DamagedFile, match="which this architecture has no place for"):
        load_state(mine, state | {"decoder.layers.0.more": torch.ones(1)})
    with pytest.raises(DamagedFile, match="has shape"):
        load_state(mine, state | {first: torch.ones(3, 4)})


def test_a_head_that_is_in_the_file_is_used_and_one_that_is_not_is_the_embedding() -> None:
    """Newer files call every head of T5 tied, also where it is another matrix."""
    theirs = reference("t5-v1.1")
    assert theirs.config.to_dict()["tie_word_embeddings"]
    mine = ours(theirs)
    assert torch.equal(mine.lm_head.weight, theirs.lm_head.weight)
    state = {name: tensor for name, tensor in mine.state_dict().items() if name != "lm_head.weight"}
    load_state(mine, state)
    assert mine.lm_head is None
