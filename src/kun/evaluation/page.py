"""Pages for people: numbers with their errors as bars, labels taken for others, every row; and answers side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from kun.errors import BadInput
from kun.evaluation.result import Measure, Result, Sample, measured_with

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#0c2836;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1,h2{line-height:1.2}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.3rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid #dbe4e8}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.dim{color:#4a6573}
.bar{position:relative;width:14rem;height:1rem;background:#edf2f4}
.bar i{position:absolute;top:0;bottom:0;left:0;background:#5aa9b8}
.bar b{position:absolute;top:.42rem;height:.16rem;background:#0c2836}
pre{white-space:pre-wrap;margin:0;font:inherit}.wrong{background:#fdf1ef}
summary{cursor:pointer}.even{table-layout:fixed;width:100%}.even pre+pre{margin-top:1rem}
@media(prefers-color-scheme:dark){body{background:#0f1c22;color:#e4eef1}td,th{border-color:#2b3f48}
.bar{background:#22343c}.bar b{background:#fff}.dim{color:#9db4bd}.wrong{background:#3a2320}}
"""
_SHARES = ("accuracy", "accuracy_norm", "macro_f1")
_PERCENTS = ("bleu", "chrf", "rouge1", "rouge2", "rougeL")


def check_name(path: Path) -> None:
    """Raise `BadInput` for a name that does not end in .html, or a folder that is not there."""
    if path.suffix != ".html":
        raise BadInput(f"{path.name} must end in .html: the report is a web page.")
    if not path.expanduser().absolute().parent.is_dir():
        raise BadInput(f"The folder of {path} does not exist: make it first.")


def page(found: Sequence[Sequence[Result]]) -> str:
    """The page of some tasks, each with the results of one model or of two side by side; it needs no other file."""
    parts = [part for results in found for part in _task(results)]
    names = ", ".join(dict.fromkeys(result.model for results in found for result in results))
    return _whole(names, "".join(parts))


def side_by_side(prompts: Sequence[str], answers: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """The page of some prompts: for each a column a model, whose texts `answers` holds in the order of the prompts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in answers)
    parts = []
    for number, prompt in enumerate(prompts):
        cells = "".join(
            f"<td>{''.join(f'<pre>{escape(text)}</pre>' for text in texts[number])}</td>"
            for texts in answers.values()
        )
        parts.append(f"<h2>{escape(prompt)}</h2><table class='even'><tr>{head}</tr><tr>{cells}</tr></table>")
    return _whole(", ".join(answers), "".join(parts))


def _whole(title: str, body: str) -> str:
    return (
        "<!doctype html><html><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"{body}</body></html>\n"
    )


def _task(results: Sequence[Result]) -> list[str]:
    first = results[0]
    notes = "".join(
        f"; {escape(told if len(models) == len(results) else f'{models[0]}: {told}')}"
        for told, models in measured_with(results).items()
    )
    parts = [
        f"<h2>{escape(first.task)}</h2>",
        f"<p class='dim'>{escape(first.kind)}, {first.n} rows{notes}</p>",
        _measures(results),
    ]
    for result in results:
        if result.confusion:
            parts.append(_confusion(result.confusion, result.model))
        parts.append(_samples(result))
    return parts


def _measures(results: Sequence[Result]) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{escape(result.model)}</td>"
        f"<td class='n'>{_number(result.measures[name])}</td><td>{_bar(name, result.measures[name])}</td></tr>"
        for name in results[0].measures
        for result in results
    ]
    head = "<tr><th>measure</th><th>model</th><th>value ± standard error, or [95 %]</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _number(measure: Measure) -> str:
    if measure.low is not None and measure.high is not None:
        return f"{measure.value:.1%} [{measure.low:.1%}, {measure.high:.1%}]"
    return f"{measure.value:.4f}" + ("" if measure.error is None else f" ± {measure.error:.4f}")


def _bar(name: str, measure: Measure) -> str:
    """A bar from nothing to the most that can be, and a line from end to end of its interval, or as long as two
    standard errors on either side."""
    is_share = name in _SHARES or measure.low is not None
    most = 1.0 if is_share else 100.0 if name in _PERCENTS else None
    if most is None:
        return ""
    value, error = 100 * measure.value / most, 200 * (measure.error or 0.0) / most
    low, high = max(0.0, value - error), min(100.0, value + error)
    if measure.low is not None and measure.high is not None:
        low, high = 100 * measure.low, 100 * measure.high
    return (
        f"<div class='bar'><i style='width:{value:.2f}%'></i>"
        f"<b style='left:{low:.2f}%;width:{high - low:.2f}%'></b></div>"
    )


def _confusion(counts: Mapping[str, Mapping[str, int]], model: str) -> str:
    """The confusion matrix: how often a row's label was taken for a column's; the darker the more often."""
    head = "".join(f"<th>{escape(name)}</th>" for name in counts)
    rows = []
    for name, said in counts.items():
        total = max(1, sum(said.values()))
        cells = "".join(
            f"<td class='n' style='background:rgba(90,169,184,{count / total:.2f})'>{count}</td>"
            for count in said.values()
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        f"<p>{escape(model)}: labels in the data (rows) and what they were taken for (columns)</p>"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    )


def _samples(result: Result) -> str:
    """Every row, those that went wrong first."""
    ordered = sorted(result.samples, key=lambda sample: (sample.right is True, sample.score))
    head = "<tr><th>row</th><th>asked</th><th>wanted</th><th>said</th><th>score</th></tr>"
    rows = "".join(map(_sample, ordered))
    summary = f"<summary>{escape(result.model)}: all {result.n} rows</summary>"
    return f"<details>{summary}<table>{head}{rows}</table></details>"


def _sample(sample: Sample) -> str:
    shade = " class='wrong'" if sample.right is False else ""
    texts = "".join(
        f"<td><pre>{escape(text)}</pre></td>" for text in (sample.asked, sample.wanted, _said(sample))
    )
    return f"<tr{shade}><td class='dim'>{escape(sample.where)}</td>{texts}<td class='n'>{sample.score:.2f}</td></tr>"


def _said(sample: Sample) -> str:
    """The answer, with the rules that it does not keep where that is what is wrong with it."""
    if sample.right or not sample.broken:
        return sample.said
    return f"{sample.said}\n\n✗ {', '.join(sample.broken)}"
