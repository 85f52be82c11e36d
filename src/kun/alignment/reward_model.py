"""A reward model that is ready to use: scores of conversations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kun.errors import BadInput
from kun.models.batching import batches
from kun.models.classifier import Classifier
from kun.models.kinds import Candidate, ModelKind
from kun.models.ready import LONGEST_TOKEN
from kun.text.control import ControlTokens

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kun.alignment.branches import Tree

Conversation = Sequence[Mapping[str, object]] | str
"""Messages with role and content; or a text, which is read as it stands."""


class RewardModel(Classifier):
    """A decoder whose head gives one number for a conversation; it reads that through its own tokenizer and template.

    What `kun train` makes at the stage `reward`, and any one-label sequence classifier over a decoder.
    """

    @classmethod
    def from_candidate(
        cls,
        candidate: Candidate,
        *,
        quantize: str | None,
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
    ) -> "RewardModel":
        """The model of a checkpoint; its chat template is how conversations are read.

        Without a `dtype` it computes in float32: in 16 bits a score changes with what else is in its batch.
        """
        dtype = "float32" if dtype is None and quantize is None else dtype
        model = super().from_candidate(candidate, quantize=quantize, dtype=dtype, device=device)
        model.template = candidate.opened().chat_template
        return model

    def share(self, decoder: "nn.Module") -> int:
        """Use the frozen weights of `decoder` in place of equal ones of its own; the bytes that this saves.

        Of a model that was trained as an adapter the base is what both begin with: its pairs stay beside the matrices
        then, in place of being added to them.
        """
        from kun.adaptation.lora import share_frozen
        from kun.hub.adapter import AdapterCheckpoint

        if isinstance(self.checkpoint, AdapterCheckpoint):
            dtype, device = next(self.net.parameters()).dtype, self.device
            del self.net  # before there is another
            self.net = self.checkpoint.adapted(dtype, device).requires_grad_(False).eval()
        return share_frozen(self.net.get_submodule("decoder"), decoder)

    def score(
        self,
        conversations: Sequence[Conversation],
        *,
        ended: Sequence[bool] | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> NDArray[np.float32]:
        """The score of each conversation, float32 [n]; only differences between answers to one prompt mean something.

        What is longer than the context is cut from its front. A score does not depend on what else is scored. Of a
        conversation that has not `ended` the last answer is read as it stands, without the end of its turn.
        Raises `BadInput` for what is no conversation, and for messages where the model has no chat template.
        """
        whole = [True] * len(conversations) if ended is None else list(ended)
        ids = [self._ids(one, tools, is_whole) for one, is_whole in zip(conversations, whole, strict=True)]
        return self.score_tokens(ids)

    def tokens(self, conversation: Conversation) -> list[int]:
        """The token ids of a whole conversation as `score` reads it, before it is cut to the context.

        Of one that is far beyond the context only the end is read, still more than the context. Raises what `score`
        raises.
        """
        return self._ids(conversation, None, True)

    def score_tokens(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The score of each conversation in token ids, float32 [n], each cut from its front to the context.

        What conversations next to each other begin with together, as answers to one prompt do, is read once, and one
        that is there twice is read once, so that both have the same bits.
        """
        from kun.alignment.branches import ONE_BY_ONE, grown

        cut = [tuple(row[-self.config.context_length :]) for row in rows]
        ids = list(dict.fromkeys(cut))
        scores = np.zeros(len(ids), np.float32)
        trees = grown(ids) if self.family.name not in ONE_BY_ONE else []
        shared = [(tree, some) for tree, some in trees if len(some) > 1]
        for part in batches([tree.size for tree, _ in shared]):
            chosen = [shared[place] for place in part]
            numbers = [number for _, some in chosen for number in some]
            scores[numbers] = self._tree_scores([tree for tree, _ in chosen])
        read = {number for _, some in shared for number in some}
        alone = [number for number in range(len(ids)) if number not in read]
        for part in batches([len(ids[number]) for number in alone]):
            numbers = [alone[place] for place in part]
            scores[numbers] = self._scores([ids[number] for number in numbers])
        place = {row: number for number, row in enumerate(ids)}
        return scores[[place[row] for row in cut]]

    def _tree_scores(self, trees: "Sequence[Tree]") -> NDArray[np.float32]:
        """Of each branch of the trees, one tree after the other."""
        import torch

        from kun.alignment.branches import planted, states_at
        from kun.networks.classifier import Classifier as ScoringDecoder

        batch = {name: tensor.to(self.device) for name, tensor in planted(trees).items()}
        net = self.net
        assert isinstance(net, ScoringDecoder)
        with torch.inference_mode():
            embedded = net.embed_tokens(batch["input_ids"])
            states = net.states(inputs_embeds=embedded, attention_mask=batch["attention_mask"])
            scored = net.score(states_at(states, batch["ends"]))
        return np.asarray(scored[:, 0].float().cpu())

    def _ids(
        self, conversation: Conversation, tools: Sequence[Mapping[str, object]] | None, is_whole: bool
    ) -> list[int]:
        text = (
            conversation if isinstance(conversation, str) else self._rendered(conversation, tools, is_whole)
        )
        read = text[-LONGEST_TOKEN * (self.config.context_length + 1) :]
        ids: list[int] = self.tokenizer.encode(read, add_special_tokens=False).ids
        if not ids:
            raise BadInput("A conversation without a word cannot be scored: give at least one message.")
        return ids

    def _rendered(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None,
        is_whole: bool,
    ) -> str:
        if self.template is None:
            raise BadInput(f"{self.name} has no chat template: give texts in place of messages.")
        control = ControlTokens.of(self.tokenizer, self.template.source)
        plain = [control.as_text(message) for message in messages]
        described = control.tools_as_text(tools)
        whole = self.template.render(plain, tools=described, add_generation_prompt=False)
        if is_whole or not plain:
            return whole
        prompt, said = self.template.render(plain[:-1], tools=described), str(plain[-1].get("content") or "")
        place = whole.rfind(said.strip())  # what the template writes before an answer is read, too
        is_found = said.strip() and whole.startswith(prompt) and place >= len(prompt)
        return whole[: place + len(said.strip())] if is_found else prompt + said

    def _scores(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = True
        with torch.inference_mode():
            logits = self.net(ids.to(self.device), mask.to(self.device)).logits
        return np.asarray(logits[:, 0].float().cpu())


def _is_reward_model(candidate: Candidate) -> bool:
    if candidate.head != "SequenceClassification":
        return False
    config = candidate.opened().family_config
    return hasattr(config, "decoder") and len(config.labels) == 1


REWARD_MODEL = ModelKind(
    "reward model", "kun.alignment.reward_model:RewardModel.from_candidate", _is_reward_model
)
