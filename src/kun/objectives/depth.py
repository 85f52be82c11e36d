"""Depth: the next token in layers that lack residuals or norms, and the gradient that reaches each of them.

He et al., arXiv:1512.03385, and Ba et al., arXiv:1607.06450, say what the two are for; in a deep stack without them
the gradient grows or shrinks by a factor a layer.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kun.adaptation.ablation import ablate
from kun.atomic_files import new_folder
from kun.errors import BadInput, BadRecipe
from kun.hub.layout import write_lineage
from kun.networks.family import Family
from kun.networks.network import LanguageNetwork
from kun.objectives.next_token import NextToken
from kun.training.cross_entropy import IGNORED
from kun.training.feed import Batch, Feed
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Plot, Write

TITLE = "gradient norm by layer"


class DepthOptions(Table):
    """Keys of [objective]."""

    residuals: bool = True
    norms: bool = True


class Depth(NextToken):
    """The next token, without residuals where `residuals` is false, without norms where `norms` is.

    Before the first step the norm of the loss's gradient by each layer's weights is recorded as a plot, in float64, so
    that what is left of it after many layers is a number and no zero. Matrices are drawn by Glorot and Bengio's rule
    ("Understanding the difficulty of training deep feedforward neural networks", 2010), which keeps the size of
    states from layer to layer as well as can be, in all cases alike.
    """

    name = "depth"
    stages = ("pretrain",)
    Options = DepthOptions
    is_pipelined = False

    @classmethod
    def fits(cls, family: Family) -> bool:
        """GPT's."""
        return family.name == "gpt"

    def networks(self, open: Opener) -> Networks[nn.Module]:
        made = super().networks(open)
        assert isinstance(self.options, DepthOptions)
        try:
            ablate(made.trained, residuals=self.options.residuals, norms=self.options.norms)
        except BadInput as error:
            raise BadRecipe(f"objective.name = {self.name!r}: {error}") from error
        layers = made.trained.get_submodule("layers")
        for weight in layers.parameters():
            if weight.dim() == 2:
                nn.init.xavier_normal_(weight)
        return made

    def facts(self, open: Opener, networks: Networks[nn.Module], feed: Feed[nn.Module]) -> dict[str, object]:
        if not open.folder.goes_on:
            batch = self.prepare(feed.spare()[0], np.random.default_rng(open.job.seed))
            norms = gradient_norms(networks.trained, batch)
            lines = {"norm": (list(range(1, len(norms) + 1)), norms)}
            open.folder.record_plot({"step": 0, **asdict(Plot(TITLE, lines, "layer", "y"))})
        return super().facts(open, networks, feed)

    def saved(self, networks: Networks[nn.Module]) -> Write:
        assert isinstance(self.options, DepthOptions)
        if self.options.residuals and self.options.norms:
            return super().saved(networks)

        def write(folder: Path, lineage: Mapping[str, object]) -> None:
            """Nothing that opens: as a GPT's, these weights would compute something else."""
            with new_folder(folder) as fresh:
                write_lineage(fresh, dict(lineage), {})

        return write


def gradient_norms(net: nn.Module, batch: Batch) -> list[float]:
    """The norm of the mean loss's gradient by the weights of each layer, the first one first, in float64."""
    wide = deepcopy(net).cpu().double()
    assert isinstance(wide, LanguageNetwork)
    layers = [
        [weight for weight in layer.parameters() if weight.requires_grad]
        for layer in wide.get_submodule("layers").children()
    ]
    mask = batch.get("attention_mask")
    states = wide.states(
        inputs_embeds=wide.embed_tokens(batch["input_ids"].cpu()),
        attention_mask=None if mask is None else mask.cpu(),
    )
    logits, labels = wide.head(states).flatten(0, 1), batch["labels"].cpu().flatten()
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORED)
    found = torch.autograd.grad(loss, [weight for layer in layers for weight in layer], allow_unused=True)
    parts = iter(found)
    norms = []
    for layer in layers:
        mine = [gradient.norm() for _ in layer if (gradient := next(parts)) is not None]
        norms.append(float(torch.stack(mine).norm()) if mine else 0.0)  # a layer that is frozen has none
    return norms
