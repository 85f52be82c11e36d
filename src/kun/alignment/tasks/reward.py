"""A reward model: a number for a conversation, learned from which of two answers people preferred.

Ouyang et al., "Training language models to follow instructions with human feedback", arXiv:2203.02155, equation 1: all
pairs of a ranking are compared, and a ranking counts once however long it is. The margin is that of Touvron et al.,
arXiv:2307.09288, section 3.2.2; the centring that of Eisenstein et al., arXiv:2312.09244.
"""

from collections.abc import Iterable, Mapping

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kun.alignment.branches import states_at
from kun.alignment.length import LengthFlag, correlation
from kun.alignment.pairs import pair_weights
from kun.alignment.probe import PairStates, fitted_head
from kun.alignment.task import PreferenceFeed, PreferenceOptions, PreferenceTask
from kun.atomic_files import new_file
from kun.networks.classifier import Classifier
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Evaluation, Loss, Plot

_BINS = 10
"""Of the plot of calibration: by what the model says of the better answer, 0.5 to 1."""
_WIDTH, _WIDEST = 0.25, 4.0
"""Of the plot of margins: of a bin, and of the last one's border."""


class Reward(PreferenceTask):
    """-log σ(score of the better answer - score of the worse one - margin), the mean over the pairs of a ranking.

    Evaluation tells `accuracy`, the share of pairs in which the better answer has the higher score (half where they are
    equal), its standard error, `margin`, `calibration_error` (Naeini et al. 2015): how far what the model says of its
    own sureness is from how often it is right, and `length_correlation`: of a pair's margin and how much longer the
    better answer is.
    """

    name = "reward"
    stages = ("reward",)

    class Options(PreferenceOptions):
        center: float = Field(default=0.01, ge=0)
        """What the squared sum of a pair's two scores weighs, which keeps scores around zero."""
        probe: int = Field(default=2048, ge=0, le=2**20)
        """Rankings on which a new head is fitted before the network learns (arXiv:2202.10054); 0 begins with zeros."""

    options: Options

    def needs(self, open: Opener) -> HeadRequirements:
        return HeadRequirements(head=Head("SequenceClassification", ("LABEL_0",), "regression"), talks=True)

    def networks(self, open: Opener) -> Networks[nn.Module]:
        networks, self.say_where_length_rules = super().networks(open), LengthFlag(open.progress)
        if self.model.fresh:  # where no head is fitted, the first loss is ln 2
            nn.init.zeros_(networks.trained.get_parameter("score.weight"))
        return networks

    def feed(self, open: Opener, networks: Networks[nn.Module]) -> PreferenceFeed:
        feed = super().feed(open, networks)
        if self.model.fresh and self.options.probe:
            self._begin_head(open, networks.trained, feed)
        return feed

    def _begin_head(self, open: Opener, net: nn.Module, feed: PreferenceFeed) -> None:
        """Give the head the weights that are fitted once for a run, whose other processes and resumption read them."""
        kept = open.folder.path / "data" / "head.safetensors"
        if not kept.is_file():
            some = feed.some(self.options.probe)
            head = fitted_head(_states(net, some, open), self.options.center)
            with new_file(kept) as fresh:
                save_file({} if head is None else {"weight": head[None]}, fresh)
        if found := load_file(kept):
            with torch.no_grad():
                net.get_parameter("score.weight").copy_(found["weight"])

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        scores = branch_scores(networks.trained, batch)
        better, worse = scores[batch["pairs"]].unbind(1)
        losses = -F.logsigmoid(better - worse - batch["margins"])
        losses = losses + self.options.center * (better + worse).square()
        right = (better > worse).float() + 0.5 * (better == worse).float()
        shares = pair_weights(batch)
        return Loss((losses * shares).sum(), self.count(batch), {"accuracy": (right.detach() * shares).sum()})

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores = branch_scores(networks.trained, batch)
            better, worse = scores[batch["pairs"]].unbind(1)
        margins, shares = better - worse, pair_weights(batch)
        right = (margins > 0).float() + 0.5 * (margins == 0).float()
        of_ranking = torch.zeros(len(batch["rankings"]), device=scores.device)
        of_ranking.index_add_(0, batch["of"], right * shares)
        sums = {
            "loss": (-F.logsigmoid(margins - batch["margins"]) * shares).sum(),
            "accuracy": of_ranking.sum(),
            "squares": of_ranking.square().sum(),
            "margin": (margins * shares).sum(),
            "scores": scores.sum(),
            "score_squares": scores.square().sum(),
            "scored": torch.tensor(float(len(scores))),
        }
        sureness = margins.abs().sigmoid()
        bins = ((sureness - 0.5) * 2 * _BINS).long().clamp(max=_BINS - 1)
        for name, values in (("sure", sureness), ("right", right), ("pairs", torch.ones_like(right))):
            each = torch.zeros(_BINS, device=scores.device).index_add_(0, bins, values)
            sums |= {f"{name}_{number}": value for number, value in enumerate(each)}
        places = ((margins + _WIDEST) / _WIDTH).long().clamp(0, int(2 * _WIDEST / _WIDTH) - 1)
        counts = torch.bincount(places, minlength=int(2 * _WIDEST / _WIDTH))
        lengths = torch.bincount(batch["branch"], minlength=len(scores)).float()
        longer = lengths[batch["pairs"][:, 0]] - lengths[batch["pairs"][:, 1]]
        pairs = {"count": torch.ones_like(margins), "margin": margins, "longer": longer}
        pairs |= {"margins": margins.square(), "longers": longer.square(), "both": margins * longer}
        sums |= {f"length_{name}": values.sum() for name, values in pairs.items()}
        return {name: float(value) for name, value in sums.items()} | {
            f"margins_{number}": float(value) for number, value in enumerate(counts)
        }

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        accuracy, self.sums = sums["accuracy"] / count, dict(sums)
        variance = max(0.0, sums["squares"] / count - accuracy**2)
        mean = sums["scores"] / sums["scored"]
        pairs = sum(sums[f"pairs_{number}"] for number in range(_BINS))
        off = sum(abs(sums[f"sure_{number}"] - sums[f"right_{number}"]) for number in range(_BINS))
        return {
            "loss": sums["loss"] / count,
            "accuracy": accuracy,
            "accuracy_error": (variance / max(1, count - 1)) ** 0.5,
            "margin": sums["margin"] / count,
            "score_mean": mean,
            "score_std": max(0.0, sums["score_squares"] / sums["scored"] - mean**2) ** 0.5,
            "calibration_error": off / max(1.0, pairs),
            "length_correlation": self._length_correlation(),
        }

    def _length_correlation(self) -> float:
        names = ("count", "margin", "longer", "margins", "longers", "both")
        return correlation([self.sums[f"length_{name}"] for name in names])

    def evaluate(self, networks: Networks[nn.Module]) -> Evaluation:
        if self.held_out is None:
            return Evaluation()
        self.say_where_length_rules(self._length_correlation())
        return Evaluation(plots=[_calibration(self.sums), _margins(self.sums)])


def _states(net: nn.Module, some: Iterable[Batch], open: Opener) -> PairStates:
    """What a head is fitted on, of a network as it is."""
    made, rankings, first, is_training = list[tuple[Tensor, ...]](), list[int](), 0, net.training
    net.eval()
    for batch in some:
        there = {name: value.to(open.device) for name, value in batch.items()}
        with torch.no_grad():
            better, worse = _last_states(net, there)[there["pairs"]].float().cpu().unbind(1)
        made.append((better, worse, pair_weights(batch), batch["margins"]))
        rankings += (batch["of"] + first).tolist()
        first += len(batch["rankings"])
        open.progress("fitting the head", first, None, "rankings")
    net.train(is_training)
    better, worse, shares, margins = (torch.cat(each) for each in zip(*made, strict=True))
    return PairStates(better, worse, shares, margins, rankings)


def branch_scores(net: nn.Module, batch: Batch) -> Tensor:
    """The score of each branch of a batch of trees, at its last token: float32 [branches]."""
    assert isinstance(net, Classifier)
    scored: Tensor = net.score(_last_states(net, batch))
    return scored[:, 0].float()


def _last_states(net: nn.Module, batch: Batch) -> Tensor:
    """Those of each branch's last token: [branches, d]."""
    assert isinstance(net, Classifier)
    embedded = net.embed_tokens(batch["input_ids"])
    states = net.states(inputs_embeds=embedded, attention_mask=batch["attention_mask"])
    return states_at(states, batch["ends"])


def _calibration(sums: Mapping[str, float]) -> Plot:
    filled = [number for number in range(_BINS) if sums[f"pairs_{number}"]]
    said = [sums[f"sure_{number}"] / sums[f"pairs_{number}"] for number in filled]
    right = [sums[f"right_{number}"] / sums[f"pairs_{number}"] for number in filled]
    return Plot(
        "How often it is right, by how sure it is",
        {"right": (said, right), "ideal": ([0.5, 1.0], [0.5, 1.0])},
    )


def _margins(sums: Mapping[str, float]) -> Plot:
    edges = [-_WIDEST + _WIDTH * (number + 0.5) for number in range(int(2 * _WIDEST / _WIDTH))]
    counts = [sums[f"margins_{number}"] for number in range(len(edges))]
    return Plot(
        "Pairs by margin: score of the better answer less that of the worse", {"pairs": (edges, counts)}
    )
