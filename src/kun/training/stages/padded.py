"""Pairs of texts, texts with a label or a number, questions with answers in a text: rows that stand by themselves."""

import torch

from kun.data.padding import PaddedRows
from kun.data.rows import Labelled, Pair, Question
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer, classes_of
from kun.training.fitted import Head
from kun.training.loop import Report
from kun.training.model import Needs, Subject, family_named, open_subject
from kun.training.objectives import AnswerSpan, Classify, Regress, Seq2Seq
from kun.training.padded import PaddedFeed
from kun.training.recipe import Recipe
from kun.training.run import RunFolder
from kun.training.samples import sampler
from kun.training.stages.prepared import Prepared, Reading


def seq2seq(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An encoder-decoder, and pairs: the source it reads, the target it is to write."""
    subject = open_subject(recipe, device)
    advice = 'an encoder-decoder learns from pairs (format = "pairs"): name such data.'
    turn = RowTokenizer(
        subject.tokenizer, end=subject.end, longest=subject.context, long=recipe.data.too_long
    )
    learned, held_out = Reading(recipe, folder, report, (Pair,), advice).stores(turn)
    config = subject.net.config
    objective = Seq2Seq(config.start_token, subject.pad, recipe.objective.label_smoothing)
    feed = padded_feed(recipe, subject, learned, held_out)
    write = sampler(subject, recipe, held_out or learned)
    return Prepared(subject, objective, feed, learned, held_out, sampler=write)


def classify(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An encoder or a decoder with a head for the labels that the training data has."""
    reading = _labelled(recipe, folder, report)
    classes = classes_of(reading.rows(recipe.data.train))
    head = Head("SequenceClassification", classes, "single_label_classification")
    subject = open_subject(recipe, device, Needs(head=head))
    learned, held_out = reading.stores(_judged(recipe, subject, classes))
    objective = Classify(len(classes), _auxiliary(recipe))
    return Prepared(subject, objective, padded_feed(recipe, subject, learned, held_out), learned, held_out)


def regress(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An encoder or a decoder with a head for a number."""
    head = Head("SequenceClassification", ("LABEL_0",), "regression")
    subject = open_subject(recipe, device, Needs(head=head))
    learned, held_out = _labelled(recipe, folder, report).stores(_judged(recipe, subject, None))
    objective = Regress(_auxiliary(recipe))
    return Prepared(subject, objective, padded_feed(recipe, subject, learned, held_out), learned, held_out)


def answer_span(recipe: Recipe, folder: RunFolder, device: torch.device, report: Report) -> Prepared:
    """An encoder with a head for where an answer starts and ends, and questions with windows of their texts."""
    subject = open_subject(recipe, device, Needs(head=Head("QuestionAnswering")))
    advice = 'this objective learns from questions on texts (format = "squad"): name such data.'
    turn = RowTokenizer(subject.tokenizer, longest=subject.context)
    learned, held_out = Reading(recipe, folder, report, (Question,), advice).stores(turn)
    feed = padded_feed(recipe, subject, learned, held_out)
    return Prepared(subject, AnswerSpan(), feed, learned, held_out)


def _labelled(recipe: Recipe, folder: RunFolder, report: Report) -> Reading:
    advice = 'this stage learns from texts with a label (format = "labelled"): name such data.'
    return Reading(recipe, folder, report, (Labelled,), advice)


def _judged(recipe: Recipe, subject: Subject, classes: tuple[str, ...] | None) -> RowTokenizer:
    return RowTokenizer(
        subject.tokenizer, classes=classes, longest=subject.context, long=recipe.data.too_long
    )


def _auxiliary(recipe: Recipe) -> float:
    """What the loss of the next token weighs: nothing in what reads both ways."""
    return recipe.objective.auxiliary if family_named(recipe).kind == "decoder" else 0.0


def padded_feed(
    recipe: Recipe,
    subject: Subject,
    learned: TokenStore,
    held_out: TokenStore | None,
    longest: int | None = None,
) -> PaddedFeed:
    """Steps of the recipe's sizes; running text longer than `longest` is cut into rows."""
    tokens, pad = recipe.train.batch_tokens, subject.pad
    return PaddedFeed(
        PaddedRows(learned, tokens, seed=recipe.seed, pad=pad, longest=longest),
        PaddedRows(held_out, tokens, pad=pad, longest=longest) if held_out else None,
        micro_tokens=recipe.train.micro_batch_tokens,
        eval_tokens=recipe.train.eval_tokens,
    )
