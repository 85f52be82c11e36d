"""A bandit: the network that is trained samples answers and learns from their rewards (REINFORCE)."""

import torch
from torch.nn.utils.rnn import pad_sequence

from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel
from kun.objectives.next_token import NextToken
from kun.training.feed import OrderedFeed
from kun.training.task import Loss

PROMPT, LENGTH = "once upon a time", 6
OPTIONS = {"max_tokens": LENGTH, "n": 16, "temperature": 1.0}


class Rollouts(OrderedFeed):
    """Each rollout of answers is learned from in two steps: between them no snapshot is taken."""

    def __init__(self, model, data):
        super().__init__(data, 1, 0, self.learned)
        self.model = model

    @property
    def at_border(self):
        return self.steps % 2 == 0

    def begin(self, step, networks):
        if self.at_border:
            networks.trained.eval()
            with LanguageModel(networks.trained, self.model.tokenizer, self.model.net.config) as writer:
                options = SamplingOptions(**OPTIONS, seed=step)
                self.answers = [one.token_ids for one in writer.submit(PROMPT, options).result()]

    def learned(self, _):
        prompt, answers = self.model.tokenizer.encode(PROMPT).ids, self.answers[self.steps % 2 :: 2]
        rows = [torch.tensor(prompt + answer) for answer in answers]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1)
        rewards = torch.tensor([sum(32 <= token < 160 for token in answer) / LENGTH for answer in answers])
        asked = (ids >= 0) & (torch.arange(ids.shape[1]) >= len(prompt))
        return {"input_ids": ids.clamp(min=0), "asked": asked, "rewards": rewards}


class Bandit(NextToken):
    name, stages, unit, is_pipelined = "bandit", ("bandit",), "answers", False
    fits = classmethod(lambda cls, family: family.kind == "decoder")

    def feed(self, open, networks):
        return Rollouts(self.model, super().feed(open, networks).data)

    def count(self, batch):
        return len(batch["rewards"])

    items = count

    def loss(self, networks, batch):
        ids, rewards = batch["input_ids"], batch["rewards"]
        logits = networks.trained.head(networks.trained.states(ids)).float()
        log_p = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        of_answers = (log_p * batch["asked"][:, 1:]).sum(dim=1)
        return Loss(-((rewards - rewards.mean()) * of_answers).sum(), len(ids), {"reward": rewards.sum()})
