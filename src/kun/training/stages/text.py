"""Running text and conversations: the next token, masked words, spans, permutations."""

from math import ceil

import torch

from kun.data.packing import PackedRows
from kun.data.rows import Conversation, Text
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadRecipe
from kun.training.feed import PackedFeed
from kun.training.fitted import Head
from kun.training.loop import Report
from kun.training.model import CONTEXT, Needs, Subject, open_subject
from kun.training.objectives import Masked, NextToken, Objective, Permutation, Seq2Seq, Span
from kun.training.recipe import Recipe
from kun.training.run import RunFolder
from kun.training.samples import sampler
from kun.training.stages.padded import padded_feed
from kun.training.stages.prepared import Prepared, Reading
from kun.training.vocabulary import sentinel

_SENTINELS = 100
"""As many as T5 has."""


def next_token(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """A decoder, and rows in which documents or conversations are packed."""
    subject = open_subject(recipe, device)
    advice = (
        'a decoder learns from text or conversations; give a pair to an encoder-decoder (stage = "translate"), a label '
        'to stage = "classify", or write pairs as instructions with answers (format = "alpaca").'
    )
    reading = Reading(recipe, folder, report, (Text, Conversation), advice)
    learned, held_out = reading.stores(_tokenizer(recipe, subject))
    feed = _packed(recipe, subject, learned, held_out)
    write = sampler(subject, recipe, held_out or learned)
    waste = feed.train.plan(0).waste
    return Prepared(subject, NextToken(), feed, learned, held_out, waste, write, even=True)


def masked(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """A BERT-type encoder with its head for masked words, and rows in which documents are packed."""
    subject = open_subject(recipe, device, Needs(head=Head("MaskedLM"), mask=True))
    assert subject.mask is not None
    asked = recipe.objective
    objective = Masked(
        mask=subject.mask,
        vocabulary=subject.tokenizer.get_vocab_size(),
        special=subject.special,
        share=asked.mask_share,
        dynamic=asked.dynamic,
        seed=recipe.seed,
    )
    return _of_text(recipe, folder, report, subject, objective)


def span(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An encoder-decoder, and documents, or pieces of them, each a row whose spans are left out."""
    asked, context = recipe.objective, recipe.train.context or CONTEXT
    most = min(_SENTINELS, ceil(context * asked.mask_share / asked.span_length) + 1)
    subject = open_subject(recipe, device, Needs(sentinels=most))
    sentinels = [subject.tokenizer.token_to_id(sentinel(number)) for number in range(most)]
    if subject.end is None:
        raise BadRecipe("The tokenizer has no token for the end of a text, which span corruption needs.")
    objective = Span(
        Seq2Seq(subject.net.config.start_token, subject.pad, asked.label_smoothing),
        tuple(index for index in sentinels if index is not None),
        subject.end,
        asked.mask_share,
        asked.span_length,
    )
    learned, held_out = _reading(recipe, folder, report).stores(_tokenizer(recipe, subject))
    feed = padded_feed(recipe, subject, learned, held_out, longest=subject.context)
    return Prepared(subject, objective, feed, learned, held_out)


def permutation(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An XLNet, and rows in which documents are packed."""
    subject = open_subject(recipe, device)
    return _of_text(recipe, folder, report, subject, Permutation(recipe.objective.predict_share))


def _of_text(
    recipe: Recipe, folder: RunFolder, report: Report, subject: Subject, objective: Objective
) -> Prepared:
    learned, held_out = _reading(recipe, folder, report).stores(_tokenizer(recipe, subject))
    feed = _packed(recipe, subject, learned, held_out)
    # how many tokens a permutation predicts differs from batch to batch
    even = not isinstance(objective, Permutation)
    return Prepared(subject, objective, feed, learned, held_out, feed.train.plan(0).waste, even=even)


def _reading(recipe: Recipe, folder: RunFolder, report: Report) -> Reading:
    advice = "this objective learns from running text; name such data, or another stage."
    return Reading(recipe, folder, report, (Text,), advice)


def _tokenizer(recipe: Recipe, subject: Subject) -> RowTokenizer:
    return RowTokenizer(
        subject.tokenizer,
        begin=subject.begin,
        end=subject.end,
        template=subject.template,
        longest=subject.context,
        long=recipe.data.too_long,
    )


def _packed(recipe: Recipe, subject: Subject, learned: TokenStore, held_out: TokenStore | None) -> PackedFeed:
    return PackedFeed(
        PackedRows(learned, subject.context, recipe.seed),
        PackedRows(held_out, subject.context) if held_out else None,
        seed=recipe.seed,
        step_tokens=recipe.train.batch_tokens,
        micro_tokens=recipe.train.micro_batch_tokens,
        eval_tokens=recipe.train.eval_tokens,
    )
