"""Tasks whose answers are written: translations by BLEU and chrF, summaries by ROUGE."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.evaluation.progress import Tell
from kun.evaluation.prompts import Examples, Template, text_of
from kun.evaluation.result import Measure, Sample, mean
from kun.evaluation.rows import TaskRow
from kun.evaluation.task import Summary, Translation, Written
from kun.text.rouge import rouge

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

    from kun.generation.options import Prompt
    from kun.models.language_model import LanguageModel

_AT_ONCE = 64
_RESAMPLES = 1000
_SHOWN = 600
_INTERVAL = 1.96
"""Standard errors on either side of the mean within which a resampled score lies 95 times in 100."""


def written(
    lm: "LanguageModel", task: Written, prompt: str, rows: Sequence[TaskRow], tell: Tell
) -> tuple[list[str], list[str], int]:
    """The model's greedy text for each row; the questions; the number of prompts that were cut."""
    template = Template(prompt, "prompt")
    examples = Examples(task, template.of, lambda row: text_of(row, task.target))
    asked: list[Prompt] = [examples.messages(row) if task.chat else examples.prompt(row) for row in rows]
    said, cut = greedy(lm, asked, task.max_tokens, task.stop, tell, task.beams)
    return said, [examples.question(row) for row in rows], cut


def greedy(
    lm: "LanguageModel",
    asked: "Sequence[Prompt]",
    max_tokens: int,
    stop: tuple[str, ...],
    tell: Tell,
    beams: int = 1,
) -> tuple[list[str], int]:
    """The likeliest text after each prompt, and the number of prompts that were cut."""
    from kun.generation.options import SamplingOptions

    options = SamplingOptions(
        max_tokens=max_tokens,
        stop=stop,
        truncate=True,
        beams=beams,
        temperature=None if beams > 1 else 0.0,
    )
    said: list[str] = []
    cut = 0
    for start in range(0, len(asked), _AT_ONCE):
        running = [lm.submit(each, options) for each in asked[start : start + _AT_ONCE]]
        try:
            completions = [generation.result()[0] for generation in running]
        finally:
            for generation in running:
                if not generation.done:
                    generation.cancel()
        said += [completion.text.strip() for completion in completions]
        cut += sum(completion.truncated > 0 for completion in completions)
        tell(len(said), len(asked))
    return said, cut


def translated(
    task: Translation, rows: Sequence[TaskRow], asked: Sequence[str], said: Sequence[str]
) -> tuple[dict[str, Measure], list[Sample], dict[str, str]]:
    """BLEU and chrF of all translations, as sacreBLEU computes them, with resampled standard errors; its signatures."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    wanted = [text_of(row, task.target) for row in rows]
    metrics: dict[str, Metric] = {"bleu": BLEU(tokenize=task.tokenize), "chrf": CHRF()}
    measures, notes = {}, {}
    for name, metric in metrics.items():
        measures[name], notes[name] = _resampled(metric, said, wanted)
    one = CHRF()
    samples = [
        Sample(row.where, text[-_SHOWN:], right, output, one.sentence_score(output, [right]).score)
        for row, text, right, output in zip(rows, asked, wanted, said, strict=True)
    ]
    return measures, samples, notes


def _resampled(metric: "Metric", said: Sequence[str], wanted: Sequence[str]) -> tuple[Measure, str]:
    """A metric's score with its standard error over resampled rows (Koehn, W04-3250), and its signature."""
    several = len(said) > 1
    score = metric.corpus_score(said, [wanted], n_bootstrap=_RESAMPLES if several else 1)
    signature = metric.get_signature().format()
    if not several:
        return Measure(score.score), signature
    told = json.loads(score.format(width=6, is_json=True, signature=signature))
    spread = float(told.get("confidence_var", 0.0))  # not told where every resampled score is 0
    return Measure(score.score, spread / _INTERVAL), signature


def summarized(
    task: Summary, rows: Sequence[TaskRow], asked: Sequence[str], said: Sequence[str]
) -> tuple[dict[str, Measure], list[Sample], dict[str, str]]:
    """The mean F1 of each ROUGE over all summaries, in percent."""
    wanted = [text_of(row, task.target) for row in rows]
    scores = [rouge(output, right, task.units) for output, right in zip(said, wanted, strict=True)]
    measures = {name: mean([100 * score[name] for score in scores]) for name in scores[0]}
    samples = [
        Sample(row.where, text[-_SHOWN:], right, output, 100 * score["rougeL"])
        for row, text, right, output, score in zip(rows, asked, wanted, said, scores, strict=True)
    ]
    return measures, samples, {"units": task.units}
