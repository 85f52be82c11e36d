"""What every training task of text has in common: one model, rows as tokens, batches of them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from torch import nn

from kun.data.overlap import overlap
from kun.data.packing import PackedRows
from kun.data.padding import PaddedRows
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.objectives.text.cursor import RowFeed
from kun.objectives.text.model import HeadRequirements, TrainingModel, open_model
from kun.objectives.text.packed import PackedFeed
from kun.objectives.text.padded import PaddedFeed
from kun.objectives.text.samples import write_on
from kun.objectives.text.saving import writer
from kun.objectives.text.source import TextSource
from kun.training.cross_entropy import IGNORED
from kun.training.feed import Batch, Feed
from kun.training.flops import flops_per_token
from kun.training.memory import OVERLAP, enough_memory
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Task, Write


class TextTask(Task[nn.Module]):
    """A task that counts tokens. `advice` says what to do with rows of another kind than it reads."""

    unit = "tokens"
    advice = "this objective learns from running text; name such data, or another stage."
    writes = False
    """Whether its network writes text, of which samples are taken."""

    def needs(self, open: Opener) -> HeadRequirements:
        """What it asks of a network next to its body."""
        return HeadRequirements()

    def networks(self, open: Opener) -> Networks[nn.Module]:
        self.seed, self.prompts, self.is_adapted = (
            open.job.seed,
            open.job.train.prompts,
            open.job.lora is not None,
        )
        self.model = open_model(open, self.needs(open))
        if self.model.fresh:
            fresh = ", ".join(self.model.fresh)
            open.progress("new weights", 0, None, f"{fresh}: the checkpoint has none")
        self.fit(self.model, open)
        return Networks(self.model.net)

    def fit(self, model: TrainingModel, open: Opener) -> None:
        """Take what the loss needs to know of the model."""

    def source(self, open: Opener) -> TextSource:
        return TextSource(open, self.rows, self.advice)

    def row_tokenizer(self, open: Opener) -> RowTokenizer:
        """How rows become tokens."""
        model = self.model
        return RowTokenizer(
            model.tokenizer,
            begin=model.begin,
            end=model.end,
            template=model.template,
            longest=model.context,
            long=open.job.data.too_long,
        )

    def feed(self, open: Opener, networks: Networks[nn.Module]) -> RowFeed:
        self.learned, self.held_out = self.source(open).stores(self.row_tokenizer(open))
        return self.batches(open, self.learned, self.held_out)

    @abstractmethod
    def batches(self, open: Opener, learned: TokenStore, held_out: TokenStore | None) -> RowFeed:
        """How tokens become batches."""

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORED).sum())

    def items(self, batch: Batch) -> int:
        """Tokens of a batch that are no padding."""
        mask = batch.get("attention_mask")
        read = batch["input_ids"].numel() if mask is None else int((mask != 0).sum())
        written, real = batch.get("decoder_input_ids"), batch.get("decoder_attention_mask")
        if written is None:
            return read
        return read + (written.numel() if real is None else int(real.sum()))

    def flops(self, networks: Networks[nn.Module]) -> float:
        return flops_per_token(networks.trained, self.model.context)

    def samples(self, networks: Networks[nn.Module]) -> Sequence[Mapping[str, str]]:
        if not self.writes:
            return ()
        store = self.held_out or self.learned
        return write_on(self.model, networks.trained, self.prompts, store, self.seed)

    def facts(self, open: Opener, networks: Networks[nn.Module], feed: Feed[nn.Module]) -> dict[str, object]:
        learned, held_out = self.learned, self.held_out
        data: dict[str, object] = {**asdict(learned.counts), "source": open.job.data.train}
        data |= {"documents": len(learned), "tokens": learned.n_tokens}
        known = {
            "config": self.model.net.config.to_hf(),
            "padding_fraction": self.padding(feed),
            "data": data,
        }
        if held_out is None:
            return known
        data |= {"eval_documents": len(held_out), "eval_tokens": held_out.n_tokens}
        if open.folder.goes_on and "overlap" in open.folder.known():
            return known
        with enough_memory(*OVERLAP):
            met = asdict(overlap(learned, held_out))
        return known | {"overlap": {key: met[key] for key in ("documents", "identical", "touched", "grams")}}

    def padding(self, feed: Feed[nn.Module]) -> float | None:
        """The share of padding where rows are packed; None where they differ in length."""
        return feed.train.plan(0).padding_fraction if isinstance(feed, PackedFeed) else None

    def saved(self, networks: Networks[nn.Module]) -> Write:
        return writer(self.model, networks.trained, self.is_adapted)


class PackedTask(TextTask):
    """A task whose rows have a fixed number of tokens, in which documents are packed."""

    def batches(self, open: Opener, learned: TokenStore, held_out: TokenStore | None) -> PackedFeed:
        job, context = open.job, self.model.context
        return PackedFeed(
            PackedRows(learned, context, job.seed),
            PackedRows(held_out, context) if held_out else None,
            seed=job.seed,
            step_tokens=job.train.batch_tokens,
            micro_tokens=job.train.micro_batch_tokens,
            eval_tokens=job.train.eval_tokens,
        )


class PaddedTask(TextTask):
    """A task whose rows are documents of their own, padded to the longest of a batch."""

    cuts = False
    """Whether running text that is longer than the context is cut into several rows."""

    def batches(self, open: Opener, learned: TokenStore, held_out: TokenStore | None) -> PaddedFeed:
        job, pad = open.job, self.model.pad
        tokens, longest = job.train.batch_tokens, self.model.context if self.cuts else None
        return PaddedFeed(
            PaddedRows(learned, tokens, seed=job.seed, pad=pad, longest=longest),
            PaddedRows(held_out, tokens, pad=pad, longest=longest) if held_out else None,
            micro_tokens=job.train.micro_batch_tokens,
            eval_tokens=job.train.eval_tokens,
        )
