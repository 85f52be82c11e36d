"""report.html of one run: all of it read from the run's folder, so that it can be written at any time."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import cast

from kun.atomic_files import new_file
from kun.errors import DamagedFile
from kun.hub.layout import LINEAGE, read_json
from kun.training.report import parts
from kun.training.report.curves import GLOW, WARM, Curve, chart
from kun.training.report.known import Facts, Metrics, PlotLine, Sample
from kun.training.report.words import say
from kun.training.run import read_lines

_SAMPLED_STEPS = 6
_OWN_CHARTS = (
    ("lr", GLOW),
    ("grad_norm", WARM),
    ("tokens_per_s", GLOW),
    ("items_per_s", GLOW),
    ("peak_share", WARM),
)


def write_report(run: Path) -> Path:
    """Write report.html into a run's folder, from what lies there. Raises `NoSpace`, `NotWritable`."""
    path = run / "report.html"
    with new_file(path) as fresh:
        fresh.write_text(_page(run), encoding="utf-8")
    return path


def read_facts(path: Path) -> dict[str, object]:
    """The object of a JSON file; an empty one where it is missing or damaged."""
    try:
        return read_json(path)
    except DamagedFile:
        return {}


def _page(run: Path) -> str:
    facts, metrics = cast(Facts, read_facts(run / "facts.json")), read_lines(run / "metrics.jsonl")
    recipe = (run / "recipe.toml").read_text(encoding="utf-8")
    body = [
        stopped(facts),
        parts.tiles(_figures(facts, metrics)),
        tokenizer(facts),
        parts.section(
            say("curves"), curves(metrics), plots(cast(list[PlotLine], read_lines(run / "plots.jsonl")))
        ),
        parts.section(say("samples"), _samples(cast(list[Sample], read_lines(run / "samples.jsonl")))),
        parts.section(say("data"), _data(facts)),
        parts.section(say("model"), _model(facts)),
        parts.section(say("lineage"), _lineage(run, facts)),
        parts.section(
            say("recipe"), f"<p class='dim'>{say('recipe_told')}</p>", parts.card(parts.toml(recipe))
        ),
    ]
    return parts.page(run.name, _subtitle(facts), body)


def _subtitle(facts: Facts) -> str:
    state = facts.get("state", "training")
    stage = f'<span class="dim">{escape(str(facts.get("stage", "")))}</span>'
    return f'{stage} <span class="state {state}">{say(state)}</span>'


def stopped(facts: Mapping[str, object]) -> str:
    """Why a run ended before its end, and what could not be done on the way."""
    sentences = (facts.get("why"), facts.get("note"))
    return "".join(f'<p class="why">{escape(str(sentence))}</p>' for sentence in sentences if sentence)


def _figures(facts: Facts, metrics: Sequence[Metrics]) -> list[tuple[str, str | None]]:
    if not metrics:
        return []
    last = metrics[-1]
    held_out = [line["eval_loss"] for line in metrics if "eval_loss" in line]
    is_language = held_out and facts.get("objective", "next_token") == "next_token"
    counted = "tokens" if "tokens" in last else "items"
    speed = statistics.median(line[f"{counted}_per_s"] for line in metrics)
    shares = [line["peak_share"] for line in metrics if "peak_share" in line]
    overhead, held = facts.get("overhead"), facts.get("bytes")
    return [
        (say("training_loss"), f"{last['loss']:.3f}"),
        (say("eval_loss"), f"{min(held_out):.3f}" if held_out else None),
        (say("perplexity"), parts.number(math.exp(min(held_out))) if is_language else None),
        (say("steps"), parts.number(last["step"])),
        (say(counted), parts.number(last[counted])),
        (say("time"), parts.duration(last["seconds"])),
        (say("speed" if counted == "tokens" else "items_per_s"), f"{speed:,.0f}"),
        (say("peak_share"), parts.percent(statistics.median(shares)) if shares else None),
        (say("memory"), parts.memory(held) if held else None),
        (say("overhead"), parts.percent(overhead) if overhead is not None else None),
        (say("parameters"), parts.number(facts["parameters"]) if "parameters" in facts else None),
    ]


def curves(metrics: Sequence[Metrics]) -> str:
    """The loss, what else evaluation measured, and how the steps went."""
    learned = Curve.named("loss", _series(metrics, "loss"), is_noisy=True)
    held_out = Curve.named("held_out", _series(metrics, "eval_loss"), WARM)
    made = [chart(say("loss_unit"), [learned, held_out], is_wide=True)]
    others = dict.fromkeys(key for line in metrics for key in line if key.startswith("eval_"))
    for key in others:
        if key != "eval_loss":
            x, y = _series(metrics, key)
            name = key.removeprefix("eval_")
            made.append(chart(f"{escape(name)}, {say('held_out')}", [Curve(x, y, name, name, WARM)]))
    for key, colour in _OWN_CHARTS:
        if key == "items_per_s" and any("tokens_per_s" in line for line in metrics):
            continue  # the items are tokens
        title = "peak" if key == "peak_share" else key
        curve = Curve.named(title, _series(metrics, key), colour, is_noisy=key != "lr")
        made.append(chart(say(title), [curve]))
    return parts.cards(*made)


def plots(lines: Sequence[PlotLine]) -> str:
    """The newest of a task's own plots of each title."""
    newest = {line["title"]: line["lines"] for line in lines}
    charts = (
        chart(escape(title), [Curve(*points, name, name) for name, points in drawn.items()])
        for title, drawn in newest.items()
    )
    return parts.cards(*charts)


def _series(metrics: Sequence[Metrics], key: str) -> tuple[list[float], list[float]]:
    lines = [line for line in metrics if isinstance(line.get(key), int | float)]
    return [line["step"] for line in lines], [line[key] for line in lines]


def _samples(samples: Sequence[Sample]) -> str:
    """A card for each of some steps, from the first to the last, next to each other."""
    by_step: dict[int, list[Sample]] = {}
    for sample in samples:
        by_step.setdefault(sample["step"], []).append(sample)
    steps = sorted(by_step)
    last = len(steps) - 1
    chosen = sorted({round(place * last / (_SAMPLED_STEPS - 1)) for place in range(_SAMPLED_STEPS)})
    shown = (_of_step(steps[place], by_step[steps[place]]) for place in chosen if steps)
    inside = "".join(shown)
    return f'<div class="samples" tabindex="0">{inside}</div>' if inside else ""


def _of_step(step: int, samples: Sequence[Sample]) -> str:
    texts = (
        f'<p class="text"><span class="prompt">{escape(sample.get("prompt", ""))}</span>{_made(sample)}</p>'
        for sample in samples
    )
    return parts.card(f"<h3>{say('step', n=f'{step:,}')}</h3>", *texts)


def _made(sample: Sample) -> str:
    image = sample.get("image", "")
    picture = f'<img src="{escape(image)}" alt="">' if image.startswith("data:image/") else ""
    return picture + escape(sample.get("text", ""))


def _data(facts: Facts) -> str:
    data = facts.get("data", {})
    if not data:
        return ""
    read = parts.facts(
        [
            (say("source"), _listed(data.get("source"))),
            (say("rows"), data.get("rows")),
            (say("duplicates"), data.get("duplicates")),
            (say("bad"), data.get("bad")),
            (say("dropped"), data.get("dropped")),
            (say("cut"), data.get("cut")),
        ]
    )
    overlap = facts.get("overlap")
    padding = facts.get("padding_fraction", facts.get("waste"))  # as it was called before
    used = parts.facts(
        [
            (say("documents"), data.get("documents")),
            (say("train_tokens"), data.get("tokens")),
            (say("eval_documents"), data.get("eval_documents")),
            (say("eval_tokens"), data.get("eval_tokens")),
            (say("padding_fraction"), None if padding is None else f"{padding:.2%}"),
        ]
    )
    if overlap:
        shown = {key: overlap[key] for key in ("identical", "touched", "documents")}
        met = say("overlap_value", __package__, **shown)
        used += f'<p class="small"><span class="dim">{say("overlap")}</span><br>{met}</p>'
    examples = "".join(f"<li>{escape(str(example))}</li>" for example in data.get("examples", []))
    why = parts.card(f"<h3>{say('bad_examples')}</h3><ul>{examples}</ul>", is_wide=True) if examples else ""
    return parts.cards(parts.card(read), parts.card(used), why)


def _listed(source: str | list[str] | None) -> str | None:
    return ", ".join(map(str, source)) if isinstance(source, list) else source


def _model(facts: Facts) -> str:
    config = facts.get("config", {})
    sizes = parts.facts(
        [
            (escape(key), value)
            for key, value in config.items()
            if value not in (None, [], {}) and key != "architectures"
        ]
    )
    if "parameters" not in facts:
        return ""
    peak, flops = facts.get("peak_flops"), facts.get("flops_per_token")
    used = parts.facts(
        [
            (say("parameters"), facts["parameters"]),
            (say("trained"), facts.get("trained")),
            (say("flops"), parts.operations(flops) if flops else None),
            (say("machine_peak"), f"{parts.operations(peak)}/s" if peak else None),
            (say("threads"), f"{facts.get('threads')} × {facts.get('processes')}"),
        ]
    )
    return parts.cards(parts.card(used), parts.card(sizes))


def _lineage(run: Path, facts: Facts) -> str:
    lineage = read_facts(run / "checkpoint" / LINEAGE)
    data, made_from = lineage.get("data"), lineage.get("parents")
    digest = data.get("digest", "") if isinstance(data, dict) else ""
    parents = [
        str(parent.get("name", parent) if isinstance(parent, dict) else parent)
        for parent in (made_from if isinstance(made_from, list) else [])
    ]
    rows = "".join(
        f"<tr><th>{what}</th><td>{value}</td></tr>"
        for what, value in (
            (say("made_from"), escape(", ".join(parents)) or say("nothing")),
            (say("digest"), escape(str(digest))),
            (say("checkpoint"), "<code>checkpoint/</code>"),
        )
    )
    return parts.card(f"<table>{rows}</table>") if lineage else ""


def tokenizer(facts: Facts) -> str:
    """What a tokenizer that was learned makes of text."""
    learned = facts.get("tokenizer", {})
    if not learned:
        return ""
    rows = [
        [
            escape(language),
            f"{found['bytes']:,}",
            f"{found['tokens']:,}",
            f"{found['bytes'] / found['tokens']:.2f}",
        ]
        for language, found in learned["compression"].items()
        if found["tokens"]
    ]
    head = [say(key) for key in ("language_of", "bytes", "tokens", "bytes_per_token")]
    words = "".join(f"<p>{parts.pieces(cut)}</p>" for cut in learned["words"].values())
    return parts.section(
        say("tokenizer"),
        parts.cards(
            parts.card(
                parts.facts([(say("kind"), learned["kind"]), (say("vocabulary"), learned["vocabulary"])]),
                f"<h3 style='margin-top:16px'>{say('words_cut')}</h3>{words}",
            ),
            parts.card(parts.table(head, rows), f"<p class='dim small'>{say('compression_told')}</p>"),
        ),
    )
