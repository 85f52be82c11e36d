"""Next token: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, equation 1."""

from typing import ClassVar

from torch import nn

from kun.data.rows import Conversation, Text
from kun.data.sources import Rows
from kun.errors import NotFound
from kun.networks.network import LanguageNetwork
from kun.objectives.text.model import HeadRequirements
from kun.objectives.text.task import PackedTask
from kun.training.cross_entropy import cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Data
from kun.training.task import Loss


class NextToken(PackedTask):
    """-log p(token | the tokens before it in its document), at every place whose next token is to be learned."""

    name = "next_token"
    stages: ClassVar[tuple[str, ...]] = ("pretrain", "finetune")
    rows = (Text, Conversation)
    advice = (
        'a decoder learns from text or conversations; give a pair to an encoder-decoder (stage = "translate"), a label '
        'to stage = "classify", or write pairs as instructions with answers (format = "alpaca").'
    )
    is_even = is_pipelined = writes = True

    def needs(self, open: Opener) -> HeadRequirements:
        """Conversations need a way to be written: a network without a chat template of its own gets the plain one."""
        return HeadRequirements(talks=open.job.stage == "finetune" and _talks(open.job.data))

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        net = networks.trained
        assert isinstance(net, LanguageNetwork)
        # embedded outside of what is compiled: its gradient adds up in an order that never varies
        embedded = net.embed_tokens(batch["input_ids"])
        states = net.states(inputs_embeds=embedded, attention_mask=batch.get("attention_mask"))
        return Loss(cross_entropy(net.head, states, batch["labels"]), self.count(batch))


def _talks(data: Data) -> bool:
    """Whether data begin with a conversation; data that are gone, of a run that goes on, are taken for such."""
    try:
        first = next(iter(Rows(data.train, data.format, skip_bad=True, limit=1)))
    except NotFound:
        return True
    return isinstance(first, Conversation)
