"""The tour: its ideas, outcomes of every kind, the page, and the table of README that is made from it."""

import base64
import json
import re
import signal
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from kun.errors import BadInput, DamagedFile, NotFound
from kun.hub.catalog import catalog
from kun.tour import touring
from kun.tour.drawings.canvas import Language
from kun.tour.errata import errata
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.page import page
from kun.tour.running import Outcome, chosen_ideas, run_tour
from kun.tour.session import HANDBOOK, LANGUAGE_MODEL, Session
from kun.tour.seventeen import IDEAS
from kun.tour.shipped import LARGEST, read_shipped, shipped
from kun.tour.table import readme_table, with_table
from kun.tour.touring import take_tour

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
PAGES: dict[str, Language] = {"README.md": "en", "README.zh-CN.md": "zh"}
CHINESE = re.compile("[一-鿿]")


def idea(number: int, *examples: Example) -> Idea:
    return Idea(
        number, ("An idea", "一个概念"), examples, ("`kun tour`", "`kun tour`"), ("it", "它"), ("a paper",)
    )


def example(name: str, ok: bool = True, needs: tuple[str, ...] = ()) -> Example:
    return Example((name, f"{name} 例"), lambda session: Shown(ok, (f"{name} shown", f"{name} 结果")), needs)


def failing(error: BaseException) -> Example:
    def run(session: Session) -> Shown:
        raise error

    return Example(("fails", "出错"), run)


def outcomes(*ideas: Idea) -> list[Outcome]:
    return list(run_tour(ideas, Session()))


def test_there_are_seventeen_ideas_each_with_an_example_that_needs_nothing() -> None:
    assert [one.number for one in IDEAS] == list(range(1, 18))
    for one in IDEAS:
        assert any(not each.needs for each in one.examples), one.title[0]
    names = [each.name[0] for one in IDEAS for each in one.examples]
    assert len(names) == len(set(names))


def test_every_label_is_written_in_both_languages() -> None:
    for one in IDEAS:
        labels = [one.comes, *(each.name for each in one.examples), one.note, one.later]
        for english, chinese in labels:
            assert bool(english) == bool(chinese), one.number
            assert not CHINESE.search(english.replace("国王 − 男人 + 女人", "")), english
            assert not english or CHINESE.search(chinese), chinese


def test_what_a_command_reads_of_a_run_was_made_by_a_command_before_it() -> None:
    shown = [one.see[side] for one in IDEAS for side in (0, 1)]
    for language in ("en", "zh"):
        page_of_ideas = (ROOT / "docs" / language / "concepts.md").read_text(encoding="utf-8")
        shown += [line for line in page_of_ideas.splitlines() if line.startswith("| ")]
    wants = 0
    for line in shown:
        made: list[str] = []
        for command in re.findall("`([^`]+)`", line):
            reads, makes = _of_runs(command)
            wants += len(reads)
            assert all(read.startswith(tuple(made)) for read in reads), (command, made)
            made += makes
    assert wants >= 20


def _of_runs(command: str) -> tuple[list[str], list[str]]:
    """Files and folders of runs/ that a command, or a recipe named by itself, reads and those that it makes."""
    named = [word for word in re.split(r"[\s=]", command) if word.startswith("runs/")]
    recipe = re.search(r"(?:^|/)([\w-]+\.toml)", command)
    if recipe is None or not (RECIPES / recipe[1]).is_file():
        return ([], named) if command.startswith("python ") else (named, [])
    read = tomllib.loads((RECIPES / recipe[1]).read_text(encoding="utf-8"))
    out = str(read.pop("out", "runs"))
    return [path for path in _texts(read) if path.startswith("runs/")], named or [out]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def test_examples_need_models_that_the_catalog_has() -> None:
    needs = {need for one in IDEAS for each in one.examples for need in each.needs}
    assert needs - {LANGUAGE_MODEL, HANDBOOK} <= set(catalog())
    assert LANGUAGE_MODEL in needs


def test_every_common_error_has_a_source_and_stands_with_an_idea() -> None:
    assert len(errata()) == 25
    assert {one.idea for one in errata()} <= {one.number for one in IDEAS}
    for one in errata():
        assert one.source
        assert CHINESE.search(one.said[1] + one.right[1])
        assert one.said != one.right


def test_an_outcome_is_true_false_or_null_with_what_it_needs() -> None:
    found = outcomes(idea(3, example("a"), example("b", ok=False), example("c", needs=("no-such-model",))))
    facts = [one.facts() for one in found]
    assert [one["ok"] for one in facts] == [True, False, None]
    assert facts[0] == {
        "idea": 3,
        "name": "a",
        "ok": True,
        "shown": "a shown",
        "seconds": facts[0]["seconds"],
    }
    assert facts[2]["needs"] == "no-such-model"
    assert "needs" not in facts[0]
    assert "kun pull no-such-model" in found[2].shown.text[0]


def test_a_language_model_that_is_not_here_is_needed_by_its_name() -> None:
    [found] = outcomes(idea(1, example("speaks", needs=(LANGUAGE_MODEL,))))
    assert found.ok is None
    assert found.needs in catalog()


@pytest.mark.parametrize(
    ("error", "said"),
    [(BadInput("The thing is wrong: fix it."), "fix it"), (ValueError("odd"), "ValueError: odd")],
)
def test_an_example_that_fails_is_false_and_the_others_run(error: Exception, said: str) -> None:
    first, second = outcomes(idea(1, failing(error), example("next")))
    assert first.ok is False
    assert said in first.shown.text[0]
    assert second.ok


def test_work_that_examples_share_is_done_once() -> None:
    session, made = Session(), []

    def make(given: Session) -> int:
        made.append(given)
        return len(made)

    assert [session.once(make), session.once(make)] == [1, 1]
    session.close()
    assert session.once(make) == 2


def test_ideas_are_chosen_by_number_in_the_order_of_the_tour() -> None:
    assert [one.number for one in chosen_ideas(IDEAS, [16, 3])] == [3, 16]
    assert len(chosen_ideas(IDEAS, [])) == 17
    with pytest.raises(BadInput, match="no idea 18: they are numbered from 1 to 17"):
        chosen_ideas(IDEAS, [18])


def test_an_interruption_leaves_the_page_of_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        touring, "IDEAS", (idea(1, example("done"), failing(KeyboardInterrupt()), example("never")),)
    )
    heard: list[str] = []
    found = take_tour((), tmp_path / "tour.html", lambda outcome: heard.append(outcome.example.name[0]))
    assert found.interrupted
    assert heard == ["done"]
    text = found.page.read_text(encoding="utf-8")
    assert "done shown" in text
    assert "It was interrupted" in text
    assert "never" not in text


@pytest.mark.parametrize(
    "error", [ImportError("cannot import name"), BadInput("torch is missing: install it.")]
)
def test_ctrl_c_that_surfaces_as_another_error_ends_the_tour(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kun.cli.app import run

    def imports(session: Session) -> Shown:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise error

    examples = (example("done"), Example(("imports", "导入"), imports), example("never"))
    monkeypatch.setattr(touring, "IDEAS", (idea(1, *examples),))
    assert run(["tour", "--out", str(tmp_path / "tour.html")]) == 130
    text = (tmp_path / "tour.html").read_text(encoding="utf-8")
    assert "It was interrupted" in text
    assert "done shown" in text
    assert str(error) not in text
    assert "never" not in text


def test_an_earlier_page_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "tour.html"
    page.write_text("earlier", encoding="utf-8")

    def run(session: Session) -> Shown:
        return Shown(page.read_text(encoding="utf-8") == "earlier", ("kept", "留着"))

    monkeypatch.setattr(touring, "IDEAS", (idea(1, Example(("kept", "留着"), run)),))
    assert take_tour((), page).outcomes[0].ok
    assert "kept" in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["tour.html"]


def test_a_page_that_is_a_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        take_tour((), tmp_path)


def shown_page() -> str:
    def draw(language: Language) -> str:
        return f'<svg xmlns="http://www.w3.org/2000/svg"><title>{language}</title></svg>'

    def run(session: Session) -> Shown:
        table = Table((("word", "词"), ("n", "n")), [("<b>", "1"), (("dog", "狗"), "2")])
        return Shown(True, ("3 < 4", "3 < 4 对"), table, draw, quote="said <b>")

    one = IDEAS[0]
    shown = Idea(
        1, one.title, (Example(("name", "名字"), run), example("waits", needs=("no-such-model",))), one.see, one.comes,
        one.sources, one.drawings, later=("More.", "更多。"),
    )  # fmt: skip
    return page(outcomes(shown), 1.0)


def test_the_page_asks_nothing_of_any_server() -> None:
    text = shown_page()
    outside = re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", text)
    assert outside
    assert all(target.startswith(("data:", "#")) for target in outside)
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttp", text)


def test_the_page_says_everything_in_both_languages_with_a_switch() -> None:
    text = shown_page()
    assert 'data-to="en"' in text
    assert 'data-to="zh"' in text
    assert re.search(r'<p class="en" lang="en">3 &lt; 4</p><p class="zh" lang="zh">3 &lt; 4 对</p>', text)
    assert re.search(r'class="en" lang="en">dog</span><span class="zh" lang="zh">狗', text)
    assert "said &lt;b&gt;" in text
    assert "&lt;b&gt;</td>" in text
    pictures = [base64.b64decode(one).decode() for one in re.findall(r"base64,([^\"]+)", text)]
    assert len(pictures) == 4  # the handbook's and the run's, in two languages
    assert "编码器" in "".join(pictures)
    assert 'alt="en"' in text  # what a drawing's title says, for those who hear the page
    assert 'alt=""' not in text
    assert "root.dataset.language = root.lang =" in text


def test_the_page_has_the_errors_sources_and_what_is_not_there_yet() -> None:
    text = shown_page()
    assert "An RNN captures only neighbouring words." in text
    assert "distance costs steps" in text
    assert "arXiv:1706.03762" in text
    assert "Not here yet: More." in text
    assert "kun pull no-such-model" in text


def test_readmes_tables_are_those_that_the_tour_makes() -> None:
    for name, language in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert with_table(text, language) == text, "make readme-table"


def test_the_table_has_a_row_for_each_idea_and_one_line_of_what_is_missing() -> None:
    for language in PAGES.values():
        rows = readme_table(language).splitlines()
        assert [row.split("|")[1].strip() for row in rows[2:19]] == [str(number) for number in range(1, 18)]
        assert all(f"`kun tour --only {number}`" in row for number, row in enumerate(rows[2:19], 1))
        assert len(rows) == 21
        assert rows[-1].count("§") == sum(bool(one.later[0]) for one in IDEAS)
    with pytest.raises(ValueError, match="no table"):
        with_table("nothing here", "en")


def test_shipped_weights_are_small_and_whole() -> None:
    folder = ROOT / "src" / "kun" / "tour" / "weights"
    files = {path.stem: path for path in folder.glob("*.safetensors")}
    assert set(files) == set(shipped())
    assert sum(path.stat().st_size for path in files.values()) <= LARGEST
    for name, one in shipped().items():
        assert read_shipped(name)
        assert "write_readers" in one.recipe or "aligned-sft.toml" in one.recipe


def test_damaged_shipped_weights_are_named(tmp_path: Path) -> None:
    for name in shipped():
        (tmp_path / f"{name}.safetensors").write_bytes(b"not what was shipped")
        with pytest.raises(DamagedFile, match=f"{name}.safetensors is damaged or missing.*install Kun again"):
            read_shipped(name, tmp_path)


def test_the_handbook_is_asked_for_where_it_is_not_installed() -> None:
    from kun.tour.ideas import local_knowledge

    [found] = [
        each for each in local_knowledge.IDEA.examples if each.name[0] == "documents are cut and searched"
    ]
    with pytest.raises(NotFound, match="handbook is not installed"):
        found.run(Session(None))
    done = run_tour([local_knowledge.IDEA], Session(None))
    outcome = next(one for one in done if one.example is found)
    assert (outcome.ok, outcome.needs) == (None, "handbook")
    assert "kun pull" not in outcome.shown.text[0]


def test_tour_json_is_one_document_and_exits_with_1_where_a_check_is_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kun.cli.app import run

    monkeypatch.chdir(tmp_path)

    def told(*ideas: Idea) -> tuple[int, dict[str, object]]:
        monkeypatch.setattr(touring, "IDEAS", ideas)
        code = run(["tour", "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, facts = told(idea(1, example("a")), idea(2, example("b", needs=("no-such-model",))))
    assert code == 0
    assert set(facts) == {"examples", "seconds"}
    assert (tmp_path / "tour.html").is_file()
    assert told(idea(1, example("a", ok=False)))[0] == 1
    assert told(idea(1, failing(KeyboardInterrupt())))[0] == 130


def test_the_command_says_each_outcome_and_names_an_idea_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kun.cli.app import run

    monkeypatch.setattr(touring, "IDEAS", (idea(1, example("first")), idea(2, example("second", ok=False))))
    assert run(["tour", "--only", "2", "-o", str(tmp_path / "t.html")]) == 1
    told = capsys.readouterr().out
    assert "FALSE second" in told
    assert "first" not in told
    assert "t.html" in told
    assert "more" not in told
    assert run(["tour", "--only", "9"]) != 0
    assert "There is no idea 9" in capsys.readouterr().err


def test_the_command_ends_with_the_models_that_would_let_more_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kun.cli.app import run

    waits = (
        example("waits", needs=("glove-6b-50d",)),
        example("as well", needs=("glove-6b-50d", "no-such-model")),
    )
    monkeypatch.setattr(touring, "IDEAS", (idea(1, *waits),))
    assert run(["tour", "-o", str(tmp_path / "t.html")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "more  kun pull glove-6b-50d"
