"""Log-likelihoods of many continuations at once are those of the reference, one by one."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tokenizer

from kun.errors import BadInput
from kun.evaluation import likelihood
from kun.evaluation.likelihood import Question, Scorer
from kun.families.xlnet.config import XLNetConfig
from kun.families.xlnet.xlnet import FAMILY, XLNet
from kun.models.language_model import LanguageModel

IDS = st.integers(0, 258)
PHRASE = st.lists(IDS, min_size=1, max_size=9)
SHARED = [7, 9, 11, 13] * 10
CONTEXT = st.lists(IDS, min_size=1, max_size=40) | PHRASE.map(lambda rest: SHARED + rest)
QUESTIONS = st.lists(
    st.builds(Question, CONTEXT, st.lists(PHRASE, min_size=1, max_size=4)), min_size=1, max_size=6
)


def alone(theirs: Any, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """The reference's log-probability of a continuation, and whether each of its tokens is the likeliest."""
    if theirs.config.is_encoder_decoder:
        begun = [theirs.config.decoder_start_token_id, *continuation[:-1]]
        given = {"input_ids": torch.tensor([context]), "decoder_input_ids": torch.tensor([begun])}
    else:
        given = {"input_ids": torch.tensor([context + continuation[:-1]])}
    with torch.no_grad():
        logits = theirs(**given).logits[0, -len(continuation) :]
    wanted = torch.tensor(continuation)
    chosen = logits.log_softmax(-1).gather(-1, wanted[:, None])
    return float(chosen.sum()), bool((logits.argmax(-1) == wanted).all())


@settings(max_examples=20)
@given(questions=QUESTIONS)
def test_they_are_the_references(pair: tuple[LanguageModel, Any], questions: list[Question]) -> None:
    lm, theirs = pair
    exact = deepcopy(theirs).double()
    for question, found in zip(questions, Scorer(lm).weigh(questions), strict=True):
        assert len(found) == len(question.continuations)
        for continuation, mine in zip(question.continuations, found, strict=True):
            logprob, greedy = alone(theirs, question.context, continuation)
            # T5 scales no scores: what rounding to float32 costs the reference itself may be more than 1e-5
            rounding = abs(logprob - alone(exact, question.context, continuation)[0])
            assert mine.logprob == pytest.approx(logprob, rel=1e-5, abs=max(1e-4, rounding))
            assert mine.tokens == len(continuation)
            assert mine.greedy == greedy


@settings(max_examples=10)
@given(questions=QUESTIONS, tokens=st.integers(1, 30), logits=st.integers(1, 4000))
def test_however_little_memory_a_step_may_take_they_are_the_same(
    pair: tuple[LanguageModel, Any], questions: list[Question], tokens: int, logits: int
) -> None:
    roomy = Scorer(pair[0]).weigh(questions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "MOST_LOGITS", logits)
        narrow = Scorer(pair[0], batch_tokens=tokens).weigh(questions)
    for one, other in zip(roomy, narrow, strict=True):
        assert [each.logprob for each in one] == pytest.approx(
            [each.logprob for each in other], rel=1e-5, abs=1e-4
        )


def test_what_all_contexts_begin_with_is_run_once(llama: LanguageModel) -> None:
    questions = [Question([*SHARED, place], [[1], [2, 3]]) for place in range(20)]
    run: list[int] = []
    handle = llama.net.register_forward_pre_hook(
        lambda net, args, kwargs: run.append(args[0].shape[1]), with_kwargs=True
    )
    try:
        Scorer(llama).weigh(questions)
    finally:
        handle.remove()
    whole_pages = len(SHARED) // likelihood.PAGE_SIZE * likelihood.PAGE_SIZE
    assert sum(run) == whole_pages + 20 * (len(SHARED) + 1 - whole_pages) + 20


def test_what_was_written_greedily_is_greedy_and_weighs_what_was_said(
    pair: tuple[LanguageModel, Any],
) -> None:
    lm, _ = pair
    scorer = Scorer(lm)
    context = scorer.encode("Once upon a time")
    (said,) = lm.submit(context, _greedy()).result()
    assert said.logprobs
    ((found,),) = scorer.weigh([Question(context, [said.token_ids])])
    assert found.greedy
    assert found.logprob == pytest.approx(sum(each.logprob for each in said.logprobs), rel=1e-5, abs=1e-4)


def _greedy() -> Any:
    from kun.generation.options import SamplingOptions

    return SamplingOptions(max_tokens=8, temperature=0, logprobs=0, ignore_eos=True)


def test_spaces_before_the_seam_belong_to_what_follows(llama: LanguageModel) -> None:
    scorer = Scorer(llama)
    assert scorer.pair("Answer: ", "yes") == scorer.pair("Answer:", " yes")
    assert scorer.pair("", "yes") == ([scorer.begin], scorer.encode("yes"))
    with pytest.raises(BadInput, match="no token of its own"):
        scorer.pair("Answer:", "")


def test_a_model_that_reads_a_text_as_a_whole_is_refused() -> None:
    sizes = {"vocab_size": 260, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32}
    net = XLNet(XLNetConfig.from_hf(transformers.XLNetConfig(**sizes).to_dict()))
    lm = LanguageModel(net.eval(), tokenizer(), net.config, family=FAMILY, name="tiny-xlnet")
    with pytest.raises(BadInput, match="tiny-xlnet reads a text as a whole"):
        Scorer(lm)
