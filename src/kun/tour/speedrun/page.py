"""report.html of a speedrun: the whole life on one page, with what such a model can do and what it cannot."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import cast

from kun.atomic_files import new_file
from kun.tour.speedrun.facts import Answered, Measures, SpeedrunFacts, Told
from kun.tour.speedrun.questions import KINDS, is_right
from kun.tour.speedrun.stages import stages
from kun.training.report import parts
from kun.training.report.curves import ACCENT, GLOW, WARM
from kun.training.report.known import Facts
from kun.training.report.page import curves, read_facts, stopped, tokenizer
from kun.training.report.words import say
from kun.training.run import read_lines

_COLOURS = (GLOW, ACCENT, WARM, "var(--dim)", "var(--danger)", ACCENT, GLOW, WARM)
_SHOWN = 4
_FORESEEING = ("untrained", "xz", "pretrained", "finetuned", "rewarded")


def write_page(run: Path, values: SpeedrunFacts) -> Path:
    """Write report.html from what stands in the run's folder. Raises `NoSpace`, `NotWritable`."""
    answers = cast(Mapping[str, list[Answered]], read_facts(run / "answers.json"))
    told = cast(Sequence[Told], read_facts(run / "stages.json").get("asked", []))
    measures = values.get("measures")
    body = [
        stopped(values),
        f"<p>{_say('what')}</p>",
        parts.tiles(_figures(run, values)),
        parts.section(_say("time"), _timeline(values["seconds"])),
        parts.section(_say("stages"), stages(measures, told)),
        parts.section(_say("can"), _honest(measures), _samples(answers)),
        parts.section(_say("measured"), _measures(measures)),
        tokenizer(cast(Facts, read_facts(run / "tokenizer" / "facts.json"))),
        parts.section(_say("pretrain"), _training(run, "pretrain")),
        *(parts.section(_say(name), _training(run, name)) for name in ("finetune", "reward", "ppo")),
        parts.section(_say("again"), _recipes(run)),
    ]
    path = run / "report.html"
    with new_file(path) as fresh:
        state = str(values["state"])
        subtitle = f'<span class="state {state}">{say(state)}</span>'
        fresh.write_text(parts.page(run.name, subtitle, body), encoding="utf-8")
    return path


def _say(key: str, **given: object) -> str:
    return say(key, __package__, **given)


def _figures(run: Path, values: SpeedrunFacts) -> list[tuple[str, str | None]]:
    corpus, size, measures = values.get("corpus"), values.get("size"), values.get("measures")
    judged = [line for line in read_lines(run / "reward" / "metrics.jsonl") if "eval_accuracy" in line]
    preferences, bits = values.get("preferences"), measures["bits_per_byte"] if measures else {}
    read = read_facts(run / "pretrain" / "facts.json")
    return [
        (_say("whole_time"), parts.duration(sum(values["seconds"].values()))),
        (say("parameters"), parts.number(size["parameters"]) if size else None),
        (_say("characters"), parts.number(corpus["characters"]) if corpus else None),
        (_say("tokens_read"), parts.number(read["tokens"]) if "tokens" in read else None),
        (_say("bits"), f"{bits['pretrained']:.2f}" if "pretrained" in bits else None),
        (_say("questions"), parts.number(corpus["learned"]) if corpus else None),
        (_say("compared"), parts.number(preferences["made"]) if preferences else None),
        (_say("judged"), _share(judged[-1], "eval_accuracy") if judged else None),
        (_say("clicks"), parts.number(preferences["clicked"]) if preferences else None),
    ]


def _share(line: Mapping[str, float], key: str) -> str:
    """A share with its standard error."""
    error = line.get(f"{key}_error")
    return f"{line[key]:.0%}" + ("" if error is None else f" ± {error:.0%}")


def _timeline(seconds: Mapping[str, float]) -> str:
    """A bar of all the time, and each stage's part of it."""
    if not seconds:
        return ""
    bars = "".join(
        f'<span style="--colour:{colour};flex:{value}"></span>'
        for value, colour in zip(seconds.values(), _COLOURS, strict=False)
    )
    keys = " ".join(
        f'<span class="key" style="--colour:{colour}">{_say(name)} · {parts.duration(value)}</span>'
        for (name, value), colour in zip(seconds.items(), _COLOURS, strict=False)
    )
    return parts.card(f'<div class="bar" style="height:16px">{bars}</div><p>{keys}</p>')


def _honest(measures: Measures | None) -> str:
    """The expectations that the measured numbers justify."""
    if not measures:
        return ""
    seen, unseen = measures["answers"]["seen"], measures["answers"]["unseen"]
    told = [f"<p>{_say('honest')}</p>"]
    for kind in KINDS:
        if kind in seen and kind in unseen:
            exact = {
                side: f"{found[kind]['exact']:.0%}" for side, found in (("seen", seen), ("unseen", unseen))
            }
            told.append(f"<li>{_say(f'honest_{kind}', **exact)}</li>")
    return f"{told[0]}<ul>{''.join(told[1:])}</ul><p>{_say('cannot')}</p>"


def _samples(answers: Mapping[str, list[Answered]]) -> str:
    cards = []
    for side in ("seen", "unseen"):
        for kind in KINDS:
            some = [one for one in answers.get(side, []) if one["kind"] == kind][:_SHOWN]
            rows = "".join(map(_sample, some))
            if rows:
                cards.append(parts.card(f"<h3>{_say(f'kind_{kind}')} · {_say(side)}</h3>", rows))
    return parts.cards(*cards)


def _sample(one: Answered) -> str:
    right = is_right(one["said"], one["wanted"])
    mark = "right" if right else "wrong"
    wanted = "" if right else f'<br><span class="dim small">{_say("wanted")} {escape(one["wanted"])}</span>'
    return (
        f'<p class="text"><span class="prompt">{escape(one["question"])}</span>\n'
        f'<span class="{mark}">{escape(one["said"])}</span>{wanted}</p>'
    )


def _measures(measures: Measures | None) -> str:
    if not measures:
        return ""
    bits = measures["bits_per_byte"]
    foreseen = parts.table(
        [_say("model"), _say("bits")],
        [[_say(name), f"{bits[name]:.3f}"] for name in _FORESEEING if name in bits],
    )
    rows = []
    for kind in KINDS:
        for side in ("seen", "unseen"):
            found = measures["answers"][side].get(kind)
            if found:
                name = f"{_say(f'kind_{kind}')}, {_say(side)}"
                rows.append([name, f"{found['exact']:.0%}", f"{found['rougeL']:.2f}", str(found["n"])])
    head = [_say("question"), _say("exact"), "ROUGE-L", _say("asked")]
    chosen = [
        [_say(side), f"{found['accuracy']:.0%}", str(found["n"])]
        for side, found in measures["choices"].items()
    ]
    choices = parts.table([_say("choices"), _say("right"), _say("asked")], chosen) if chosen else ""
    return parts.cards(
        parts.card(foreseen, f'<p class="dim small">{_say("bits_told")}</p>'),
        parts.card(choices, f'<p class="dim small">{_say("chance")}</p>') if chosen else "",
        f'<div class="card wide">{parts.table(head, rows)}</div>',
    )


def _training(run: Path, name: str) -> str:
    metrics = read_lines(run / name / "metrics.jsonl")
    if not metrics:
        return ""
    return (
        f'<p class="dim"><a href="{name}/report.html">{_say("own_report")}</a></p>{curves(metrics[-20000:])}'
    )


def _recipes(run: Path) -> str:
    shown = "".join(
        f"<details><summary>{escape(path.name)}</summary>{parts.toml(path.read_text(encoding='utf-8'))}</details>"
        for path in sorted((run / "recipes").glob("*.toml"))
    )
    return f"<p>{_say('again_told')}</p>{parts.card(shown)}" if shown else ""
