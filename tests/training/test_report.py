"""A run's report: what it tells, that nothing in it acts, and that it is there however the run ended."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kun
from kun.errors import BadRecipe, Diverged
from kun.training.loop import Loop
from kun.training.report import reporting
from kun.training.report.curves import Curve, chart, smooth, ticks
from kun.training.report.page import write_report
from kun.training.report.words import LANGUAGES, catalogue

EVIL = "</p><script>ran()</script><img src=x onerror=ran()>"


class _Elements(HTMLParser):
    """The names of all elements of a page, and every attribute's value."""

    def __init__(self, page):
        super().__init__()
        self.names, self.values = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.values += [(tag, name, value or "") for name, value in attrs]


def _page(run):
    return run.report.read_text(encoding="utf-8")


def _write_run(folder, **files):
    folder.mkdir()
    (folder / "recipe.toml").write_text(files.get("recipe", 'stage = "pretrain"\n'), encoding="utf-8")
    (folder / "facts.json").write_text(json.dumps(files.get("facts", {})), encoding="utf-8")
    for name in ("metrics", "samples", "plots"):
        lines = "".join(json.dumps(line) + "\n" for line in files.get(name, []))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def test_a_report_tells_the_curves_the_data_the_model_and_the_recipe(recipe):
    run = kun.train(recipe, {"train.sample_every": 6})
    page = _page(run)
    facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))
    assert facts["state"] == "done"
    assert facts["overlap"]["documents"] == facts["data"]["eval_documents"] > 0
    curves = [json.loads(v) for tag, name, v in _Elements(page).values if name == "data-curves"]
    assert len(curves) == 5
    loss, held_out = curves[0]["lines"]
    assert loss["x"] == list(range(1, 13))
    assert held_out["x"] == [4, 8, 12]
    assert f"{facts['parameters']:,}" in page
    assert f"{facts['data']['tokens']:,}" in page
    assert "micro_batch_tokens" in page
    assert page.count('class="text"') == 4  # two prompts at two steps


def test_a_report_loads_nothing_from_elsewhere(recipe):
    page = _page(kun.train(recipe, {"train.steps": 4, "train.sample_every": 4}))
    elements = _Elements(page)
    assert not [value for value in elements.values if value[1] in ("src", "srcset", "data", "action")]
    assert not {"link", "iframe", "object", "img"} & set(elements.names)
    assert not re.search(r"url\((?!#)|@import|https?://", page.replace("http://www.w3.org/2000/svg", ""))
    assert "default-src 'none'" in page


def test_what_a_run_says_cannot_act_in_its_report(tmp_path):
    page = _write_run(
        tmp_path / EVIL.replace("/", ""),
        recipe=f'out = "{EVIL}"\n{EVIL}\n',
        facts={
            "stage": EVIL,
            "state": "failed",
            "why": EVIL,
            "note": EVIL,
            "parameters": 1,
            "config": {EVIL: EVIL},
            "data": {"source": EVIL, "examples": [EVIL]},
            "tokenizer": {
                "kind": EVIL,
                "vocabulary": 1,
                "compression": {EVIL: {"bytes": 2, "tokens": 1}},
                "words": {EVIL: [EVIL]},
            },
        },
        metrics=[
            {"step": n, "loss": 1.0, "tokens": 1, "seconds": 1.0, "tokens_per_s": 1.0, f"eval_{EVIL}": 1.0}
            for n in (1, 2)
        ],
        samples=[{"step": 1, "prompt": EVIL, "text": EVIL}],
    )
    names = _Elements(page).names
    assert names.count("script") == 1
    assert "img" not in names
    assert page.count("ran()") > 12  # all of it is there, as text


def test_a_report_shows_the_pictures_and_the_newest_plots_of_a_task(tmp_path):
    plots = [{"step": n, "title": EVIL, "lines": {"norm": [[0, 1], [n, n + 1]]}} for n in (1, 2)]
    samples = [{"step": 1, "prompt": "a fish", "image": "data:image/png;base64,AA=="}]
    samples += [{"step": 1, "prompt": "", "image": "https://example.org/a.png"}]
    metrics = [{"step": 1, "loss": 1.0, "items": 8, "items_per_s": 4.0, "seconds": 2.0}]
    page = _write_run(tmp_path / "run", metrics=metrics, samples=samples, plots=plots)
    elements = _Elements(page)
    assert [value for tag, name, value in elements.values if tag == "img" and name == "src"] == [
        "data:image/png;base64,AA=="
    ]
    (drawn,) = [json.loads(v) for _, name, v in elements.values if name == "data-curves"]
    assert drawn["lines"][0]["y"] == [2, 3]
    assert elements.names.count("script") == 1
    assert "example.org" not in page


def test_a_report_of_a_run_that_has_not_begun_is_a_page_too(tmp_path):
    assert "pretrain" in _write_run(tmp_path / "run")


def test_a_training_that_diverged_says_so_in_its_report(recipe):
    with pytest.raises(Diverged) as raised:
        kun.train(recipe, {"optimizer.lr": 1e30, "optimizer.clip": 1e30, "train.steps": 40})
    folder = recipe.parent / "run"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "facts.json").read_text(encoding="utf-8"))["state"] == "failed"
    assert str(raised.value) in page


def test_an_interrupted_training_has_a_report_and_a_resumed_one_is_done(recipe, monkeypatch):
    def interrupted(self):
        step(self)
        if self.state.step == 6:
            raise KeyboardInterrupt

    step = Loop._step
    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kun.train(recipe)
    monkeypatch.undo()
    facts = recipe.parent / "run" / "facts.json"
    assert json.loads(facts.read_text(encoding="utf-8"))["state"] == "interrupted"
    assert 'class="state interrupted"' in (facts.parent / "report.html").read_text(encoding="utf-8")
    assert 'class="state done"' in _page(kun.train(recipe, resume=True))


def test_a_report_is_written_while_training_goes_on(recipe, monkeypatch):
    monkeypatch.setattr(reporting, "_SECONDS", 0.0)
    seen = []
    step = Loop._step

    def watched(self):
        step(self)
        seen.append((self.folder.path / "report.html").read_text(encoding="utf-8"))

    monkeypatch.setattr(Loop, "_step", watched)
    kun.train(recipe, {"train.steps": 4})
    assert len(seen) == 4
    assert all('class="state training"' in page for page in seen)


def test_metrics_become_event_files_that_go_on_where_a_run_does(recipe):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = kun.train(recipe, {"train.log": ["tensorboard"]})
    kun.train(recipe, {"train.log": ["tensorboard"], "train.steps": 14}, resume=True)
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 15))
    losses = [line["loss"] for line in kun.Run(run.path, run.checkpoint).metrics]
    np.testing.assert_allclose([event.value for event in events.Scalars("loss")], losses, rtol=1e-6)
    assert [event.step for event in events.Scalars("eval/loss")][:3] == [4, 8, 12]


def test_event_files_without_the_package_are_refused_before_anything_is_written(recipe, monkeypatch):
    monkeypatch.setattr("kun.training.tensorboard.find_spec", lambda name: None)
    with pytest.raises(BadRecipe, match="pip install"):
        kun.train(recipe, {"train.log": ["tensorboard"]})
    assert not (recipe.parent / "run").exists()


@pytest.mark.browser
def test_a_report_speaks_chinese_at_a_click_and_shows_numbers_under_the_pointer(recipe):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium here: install it to run the browser tests.")
    from playwright.sync_api import sync_playwright

    run = kun.train(recipe)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 800}, locale="en-GB")
        faults = []
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(run.report.as_uri())
        assert tab.get_by_text("Learning rate").is_visible()
        assert not tab.get_by_text("学习率").is_visible()
        tab.locator("#language").click()
        assert tab.get_by_text("学习率").is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.locator(".plot").first.hover(position={"x": 1, "y": 50})
        assert "步 1" in tab.locator(".tip").inner_text()
        assert f"{run.metrics[0]['loss']:.4g}" in tab.locator(".tip").inner_text()
        browser.close()
    assert not faults


def test_every_text_of_a_report_is_there_in_both_languages():
    for key, texts in catalogue("kun.training.report").items():
        assert set(texts) == set(LANGUAGES), key
        assert all(texts.values()), key
        places = [set(re.findall(r"\{(\w+)\}", text)) for text in texts.values()]
        assert places[0] == places[1], key


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_some_even_steps_within_an_axis(low, width):
    high = low + width
    found = ticks(low, high)
    assert len(found) <= 7
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert all(low - slack <= tick <= high + slack for tick in found)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.floats(0.1, 30))
def test_smoothed_values_stay_between_the_least_and_the_most(values, span):
    made = smooth(np.array(values), span)
    assert made.min() >= min(values) - 1e-6
    assert made.max() <= max(values) + 1e-6
    assert smooth(np.array(values), 1.0) == pytest.approx(values)


def test_smoothing_does_not_lag_behind_a_steady_fall():
    falling = np.linspace(9, 1, 400)
    assert np.abs(smooth(falling, 10) - falling)[150:-150].max() < 1e-4


def test_a_chart_leaves_out_what_is_no_number_and_few_far_points_do_not_flatten_it():
    values = [1.0 + 0.01 * (n % 7) for n in range(500)]
    values[3], values[100] = float("nan"), 1e6
    page = chart("loss", [Curve(list(range(500)), values, "loss", "损失")])
    told = json.loads(next(v for _, name, v in _Elements(page).values if name == "data-curves"))
    assert told["y"][1] < 2
    assert len(told["lines"][0]["x"]) <= 400
    assert chart("empty", [Curve([1], [1.0], "a", "b")]) == ""
