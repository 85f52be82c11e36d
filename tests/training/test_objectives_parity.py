"""The losses are those of the reference implementation on the same weights and batch; packing changes no gradient."""

import numpy as np
import pytest
import torch
import transformers as hf
from torch.nn.utils.rnn import pad_sequence

from kun.families import family_of
from kun.objectives.answer_span import AnswerSpan
from kun.objectives.classify import Classify
from kun.objectives.masked import Masked
from kun.objectives.next_token import NextToken
from kun.objectives.permutation import Permutation
from kun.objectives.regress import Regress
from kun.objectives.seq2seq import Seq2Seq
from kun.objectives.span import Span
from kun.training.cross_entropy import IGNORED
from kun.training.networks import Networks

CHANCE = np.random.default_rng


def _ours(theirs):
    """Our network with the reference's weights, ready to train without dropout."""
    values = {**theirs.config.to_dict(), "architectures": [type(theirs).__name__]}
    family = family_of(values)
    net = family.network(family.config.from_hf(values))
    from kun.networks.network import load_state

    load_state(net, {name: tensor.clone() for name, tensor in net.names.ours(theirs.state_dict()).items()})
    return net.eval()


def _mean(objective, net, batch):
    loss = objective.loss(Networks(net), batch).sum / objective.count(batch)
    loss.backward()
    return float(loss.detach())


def _norm(net):
    return float(sum(p.grad.double().square().sum() for p in net.parameters() if p.grad is not None) ** 0.5)


def _check(net, theirs, mine, reference):
    reference.backward()
    assert mine == pytest.approx(float(reference.detach()), rel=1e-5)
    assert _norm(net) == pytest.approx(_norm(theirs), rel=1e-3)


def _text(rows=3, length=12, seed=0):
    torch.manual_seed(seed)
    return torch.randint(5, 60, (rows, length))


BERT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT |= {"intermediate_size": 64, "max_position_embeddings": 32, "pad_token_id": 0}


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Ernie"])
def test_masked_words_cost_what_the_reference_says(kind):
    torch.manual_seed(0)
    theirs = getattr(hf, f"{kind}ForMaskedLM")(getattr(hf, f"{kind}Config")(**BERT)).eval()
    net = _ours(theirs)
    objective = Masked(Masked.Options(mask_share=0.3), mask=4, vocabulary=64, special=frozenset({0, 4}))
    batch = objective.prepare({"input_ids": _text()}, CHANCE(0))
    reference = theirs(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    _check(net, theirs, _mean(objective, net, batch), reference)


@pytest.mark.parametrize("problem", ["single_label_classification", "regression"])
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_judging_costs_what_the_reference_says(kind, problem):
    torch.manual_seed(0)
    labels = 3 if problem != "regression" else 1
    config = getattr(hf, f"{kind}Config")(**BERT, num_labels=labels, problem_type=problem)
    theirs = getattr(hf, f"{kind}ForSequenceClassification")(config).eval()
    net = _ours(theirs)
    objective = Regress() if labels == 1 else Classify(classes=3)
    mask = torch.arange(12) < torch.tensor([12, 7, 9])[:, None]
    ids = torch.where(mask, _text(), 0)
    classes = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    batch = objective.prepare({"input_ids": ids, "attention_mask": mask, "classes": classes}, CHANCE(0))
    reference = theirs(input_ids=ids, attention_mask=mask.long(), labels=batch["labels"]).loss
    _check(net, theirs, _mean(objective, net, batch), reference)


def test_answers_cost_what_the_reference_says():
    torch.manual_seed(0)
    theirs = hf.BertForQuestionAnswering(hf.BertConfig(**BERT)).eval()
    net = _ours(theirs)
    objective = AnswerSpan()
    learned = torch.zeros(3, 12, dtype=torch.bool)
    learned[0, 4:7] = learned[1, 11] = True
    batch = objective.prepare({"input_ids": _text(), "learned": learned}, CHANCE(0))
    assert batch["labels"].tolist() == [[4, 6], [11, 11], [0, 0]]
    starts, ends = batch["labels"].unbind(-1)
    reference = theirs(input_ids=batch["input_ids"], start_positions=starts, end_positions=ends).loss
    _check(net, theirs, _mean(objective, net, batch), reference)


def test_a_judging_decoder_says_what_the_reference_says():
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    theirs = hf.GPT2ForSequenceClassification(hf.GPT2Config(**sizes, num_labels=3, pad_token_id=0)).eval()
    net = _ours(theirs)
    objective = Classify(classes=3)
    mask = torch.arange(12) < torch.tensor([12, 7, 9])[:, None]
    ids = torch.where(mask, _text(), 0)
    batch = objective.prepare(
        {"input_ids": ids, "attention_mask": mask, "classes": torch.tensor([2.0, 0.0, 1.0])}, CHANCE(0)
    )
    reference = theirs(input_ids=ids, attention_mask=mask.long(), labels=batch["labels"]).loss
    _check(net, theirs, _mean(objective, net, batch), reference)
    with torch.no_grad():
        torch.testing.assert_close(net(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_a_judging_decoder_does_not_depend_on_how_a_step_is_divided():
    from kun.families.gpt.config import GPTConfig
    from kun.families.gpt.gpt import GPT
    from kun.networks.classifier import Classifier, ClassifierConfig

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_positions": 32}
    decoder = GPT(GPTConfig(**sizes))
    net = Classifier(ClassifierConfig(decoder.config, ("a", "b", "c"), None, 0), decoder).eval()
    objective = Classify(classes=3, auxiliary=0.5)
    mask = torch.arange(12) < torch.tensor([12, 3, 7])[:, None]
    classes = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    whole = {"input_ids": torch.where(mask, _text(), 0), "attention_mask": mask, "classes": classes}
    found = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 3)]):
        net.zero_grad()
        for part in parts:
            batch = {name: tensor[part] for name, tensor in whole.items()}
            objective.loss(Networks(net), objective.prepare(batch, CHANCE(0))).sum.backward()
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4)


def _pairs():
    torch.manual_seed(1)
    sources = [torch.randint(5, 60, (n,)) for n in (9, 5, 7)]
    targets = [torch.randint(5, 60, (n,)) for n in (4, 8, 6)]
    real = pad_sequence([torch.ones(len(s), dtype=torch.bool) for s in sources], batch_first=True)
    return {
        "input_ids": pad_sequence(sources, batch_first=True),
        "attention_mask": real,
        "labels": pad_sequence(targets, batch_first=True, padding_value=IGNORED),
    }


def _t5():
    return hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0
        )
    )


def _marian():
    sizes = {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in MARIAN.items()}
    config = hf.MarianConfig(
        vocab_size=64,
        d_model=32,
        max_position_embeddings=32,
        pad_token_id=0,
        decoder_start_token_id=0,
        **sizes,
    )
    return hf.MarianMTModel(config)


MARIAN = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}


def _switch():
    config = hf.SwitchTransformersConfig(
        vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, num_experts=2,
        num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, dropout_rate=0.0, router_jitter_noise=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return hf.SwitchTransformersForConditionalGeneration(config)


@pytest.mark.parametrize("make", [_t5, _marian])
def test_sequence_to_sequence_costs_what_the_reference_says(make):
    torch.manual_seed(0)
    theirs = make().eval()
    net = _ours(theirs)
    objective = Seq2Seq(start=0, pad=0)
    batch = objective.prepare(_pairs(), CHANCE(0))
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    _check(net, theirs, _mean(objective, net, batch), theirs(**given).loss)


def test_routers_add_to_the_loss_what_the_reference_adds():
    torch.manual_seed(0)
    theirs = _switch().eval()
    net = _ours(theirs).train()
    objective = Seq2Seq(start=0, pad=0)
    batch = objective.prepare(_pairs(), CHANCE(0))
    given = {
        name: batch[name] for name in ("input_ids", "attention_mask", "labels", "decoder_attention_mask")
    }
    output = theirs(**given, output_router_logits=True)
    plain = Seq2Seq(start=0, pad=0).measure(Networks(net.eval()), batch)["loss"] / objective.count(batch)
    mine = _mean(objective, net.train(), batch)
    # the reference counts padding among the tokens that are routed, we do not
    assert mine - plain == pytest.approx(float(output.loss.detach()) - plain, rel=0.2)
    assert mine > plain


def test_label_smoothing_is_that_of_the_reference_trainer():
    from transformers.trainer_pt_utils import LabelSmoother

    torch.manual_seed(0)
    theirs = _marian().eval()
    net = _ours(theirs)
    objective = Seq2Seq(Seq2Seq.Options(label_smoothing=0.1), start=0, pad=0)
    batch = objective.prepare(_pairs(), CHANCE(0))
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    reference = LabelSmoother(0.1)(theirs(**given), batch["labels"])
    _check(net, theirs, _mean(objective, net, batch), reference)


def test_permutations_cost_what_the_reference_says():
    torch.manual_seed(0)
    theirs = hf.XLNetLMHeadModel(
        hf.XLNetConfig(vocab_size=64, d_model=32, n_layer=2, n_head=2, d_inner=64, mem_len=None)
    ).eval()
    net = _ours(theirs)
    objective = Permutation(Permutation.Options(predict_share=0.25))
    batch = objective.prepare({"input_ids": _text(rows=2)}, CHANCE(0))
    logits = theirs(
        input_ids=batch["input_ids"],
        perm_mask=batch["perm_mask"].float(),
        target_mapping=batch["target_mapping"],
        use_mems=False,
    ).logits
    reference = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    _check(net, theirs, _mean(objective, net, batch), reference)


def test_spans_left_out_and_listed_make_up_the_text():
    objective = Span(start=0, pad=0, sentinels=tuple(range(60, 50, -1)), end=1)
    for seed in range(50):
        ids = np.append(CHANCE(seed).integers(5, 50, size=2 + seed), 1)
        source, target = objective.corrupted(ids, CHANCE(seed))
        said, spans = target.tolist(), {}
        assert said[-1] == 1
        for token in said[:-1]:
            if token in objective.sentinels:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        again = [t for token in source.tolist() for t in spans.get(token, [token])]
        assert again == ids.tolist()
        assert sum(map(len, spans.values())) == min(len(ids) - 2, max(1, round(0.15 * (len(ids) - 1))))


DOCUMENTS = [torch.arange(5, 5 + n) % 50 + 5 for n in (6, 9, 4)]


def _rows(documents, apart):
    """The same documents packed in one row, or padded in rows of their own."""
    ends = np.cumsum([len(d) for d in documents])
    places = [torch.arange(end - len(d), end) for d, end in zip(documents, ends, strict=True)]
    if not apart:
        numbers = torch.cat([torch.full((len(d),), n + 1) for n, d in enumerate(documents)])
        return {
            "input_ids": torch.cat(documents)[None],
            "attention_mask": numbers[None].int(),
            "places": torch.cat(places)[None],
        }
    ids = pad_sequence(documents, batch_first=True)
    real = pad_sequence([torch.ones(len(d)) for d in documents], batch_first=True).int()
    return {"input_ids": ids, "attention_mask": real, "places": pad_sequence(places, batch_first=True)}


def _nets():
    small = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64}
    from kun.families.bert import bert, roberta
    from kun.families.gpt.config import GPTConfig
    from kun.families.gpt.gpt import GPT
    from kun.families.lstm import LSTM, LSTMConfig
    from kun.families.xlnet.config import XLNetConfig
    from kun.families.xlnet.xlnet import XLNet

    yield "gpt", GPT(GPTConfig(**small, max_positions=32)), NextToken()
    yield "lstm", LSTM(LSTMConfig(vocab_size=64, d_model=32, n_layers=2)), NextToken()
    masked = Masked(Masked.Options(mask_share=0.4, dynamic=False), mask=4, vocabulary=64)
    yield "bert", bert.Bert(bert.BertConfig(**small, max_positions=32, head="MaskedLM")), masked
    config = roberta.RobertaConfig(**small, max_positions=32, head="MaskedLM")
    yield "roberta", roberta.Roberta(config), masked
    yield "xlnet", XLNet(XLNetConfig(**small)), Permutation(Permutation.Options(predict_share=0.3))


@pytest.mark.parametrize("name", ["gpt", "lstm", "bert", "roberta", "xlnet"])
def test_gradients_are_the_same_packed_and_apart(name):
    torch.manual_seed(0)
    net, objective = next((net, objective) for known, net, objective in _nets() if known == name)
    found = []
    for apart in (False, True):
        batch = _rows(DOCUMENTS, apart)
        if name in ("gpt", "lstm"):
            following = [torch.cat([d[1:], torch.tensor([IGNORED])]) for d in DOCUMENTS]
            batch["labels"] = (
                pad_sequence(following, batch_first=True, padding_value=IGNORED)
                if apart
                else torch.cat(following)[None]
            )
        chance = _SameOrder() if name == "xlnet" else CHANCE(0)
        batch = objective.prepare(batch, chance)
        net.eval().zero_grad()
        loss = _mean(objective, net, batch)
        found.append((loss, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}))
    (packed, ours), (alone, theirs) = found
    assert packed == pytest.approx(alone, rel=1e-5)
    for parameter, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[parameter], atol=1e-5, rtol=1e-3)


class _SameOrder:
    """Draws numbers by a token's place in its document, so that an order is the same packed and apart."""

    def random(self, shape):
        if shape[1] == 1:
            return np.full(shape, 0.5)
        sizes = [len(d) for d in DOCUMENTS]
        places = [np.linspace(0, 1, size, endpoint=False) * 7 % 1 for size in sizes]
        if shape[0] == 1:
            return np.concatenate(places)[None]
        return np.stack([np.pad(p, (0, shape[1] - len(p)), constant_values=0.999) for p in places])
