"""The requests of lm-evaluation-harness's `local-completions`, through the official client."""

import math
from typing import Any

import openai
import pytest
import torch
from tiny_service import Live

PROMPTS = [[72, 105, 32, 116, 104, 101, 114, 101], [9], list(range(3, 60)), [1, 2, 3]]
CONTEXTS = [5, 1, 50, 2]


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return live.client()


def test_log_probabilities_of_continuations_are_the_networks(client: openai.OpenAI, live: Live) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    answer = client.completions.create(model="tiny", prompt=PROMPTS, **asked)
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    for choice, ids, context in zip(choices, PROMPTS, CONTEXTS, strict=True):
        logprobs: Any = choice.logprobs
        assert len(logprobs.token_logprobs) == len(ids) + 1  # the prompt's, and one token that was written
        with torch.no_grad():
            theirs = live.service.lm.net(torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted = [float(theirs[place - 1, ids[place]]) for place in range(context, len(ids))]
        found = logprobs.token_logprobs[context:-1]
        assert found == pytest.approx(wanted, abs=1e-4)
        # the harness calls a continuation greedy where each token's value is the largest of those reported
        greedy = [int(theirs[place - 1].argmax()) == ids[place] for place in range(context, len(ids))]
        tops = logprobs.top_logprobs[context:-1]
        assert [value == max(top.values()) for value, top in zip(found, tops, strict=True)] == greedy
        assert all(math.isfinite(value) for value in found)


def test_a_token_stands_behind_the_prompt_even_where_the_text_would_end(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
    answer = client.completions.create(
        model="tiny", prompt=PROMPTS[0], logit_bias={"256": 1000}, **asked
    )  # 256 ends a text
    logprobs: Any = answer.choices[0].logprobs
    assert len(logprobs.token_logprobs) == len(PROMPTS[0]) + 1
    assert logprobs.tokens[-1] == "<|end|>"


def test_texts_are_continued_until_a_stop(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "seed": 1234, "stop": ["\n\n"]}
    answer = client.completions.create(model="tiny", prompt=PROMPTS[:2], **asked)
    alone = [
        client.completions.create(model="tiny", prompt=ids, **asked).choices[0].text for ids in PROMPTS[:2]
    ]
    assert [choice.text for choice in answer.choices] == alone
