"""The three walks of docs/*/develop.md, run as they are written: packages that add to Kun without an edit in it."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import kun
import kun.families
from kun.training import registry

PAGES = {language: Path(__file__).parents[1] / "docs" / language / "develop.md" for language in ("en", "zh")}
BLOCK = re.compile(r'^```(?:python|toml) title="(\S+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
Install = Callable[[str], None]


def walks(language: str) -> dict[str, tuple[str, str]]:
    """The source and the entry points of each walk by the name of its file."""
    blocks = BLOCK.findall(PAGES[language].read_text(encoding="utf-8"))
    return {
        name: (source, points) for (name, source), (_, points) in zip(blocks[::2], blocks[1::2], strict=True)
    }


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts the package of a walk where Python finds installed ones."""

    def install(name: str) -> None:
        source, points = walks("en")[name]
        known = tmp_path / "site" / f"kun_walk_{Path(name).stem}-1.0.dist-info"
        known.mkdir(parents=True)
        (known / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: kun-walk-{Path(name).stem}\nVersion: 1.0\n"
        )
        groups = tomllib.loads(points)["project"]["entry-points"]
        (known / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n{key} = {value}\n"
                for group, named in groups.items()
                for key, value in named.items()
            )
        )
        (tmp_path / "site" / name).write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        _forget()

    yield install
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    kun.families._outside.cache_clear()
    registry.tasks.cache_clear()


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str, str], Path]:
    documents = (f'{{"text": "The northern sea has a fish, number {n}."}}' for n in range(80))
    (tmp_path / "text.jsonl").write_text("\n".join(documents))

    def recipe(family: str, objective: str = "") -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(
            f'stage = "pretrain"\nout = "{(tmp_path / "run").as_posix()}"\n'
            f'[model]\nfamily = "{family}"\nn_layers = 2\nn_heads = 2\nd_model = 32\ntokenizer = "bytes"\n'
            f'[data]\ntrain = "{(tmp_path / "text.jsonl").as_posix()}"\neval = 0.2\n{objective}'
            "[train]\nsteps = 30\nbatch_tokens = 512\ncontext = 64\neval_every = 30\n[optimizer]\nlr = 0.01\n"
        )
        return path

    return recipe


def test_both_languages_walk_through_the_same_code_of_under_sixty_lines_without_blank_ones() -> None:
    assert walks("en") == walks("zh")
    assert list(walks("en")) == ["parallel.py", "z_loss.py", "unigrams.py"]
    for source, points in walks("en").values():
        assert sum(bool(line.strip()) for line in (source + points).splitlines()) < 60


def test_the_family_of_the_walk_trains_is_opened_and_writes(
    install: Install, recipe: Callable[..., Path]
) -> None:
    install("parallel.py")
    run = kun.train(recipe("parallel"))
    assert run.metrics[-1]["loss"] < 0.7 * run.metrics[0]["loss"]
    with kun.load(run.checkpoint) as lm:
        assert lm.family.name == "parallel"
        written = lm.generate("The northern sea", max_tokens=8, temperature=0)
        assert lm.generate("The northern sea", max_tokens=8, temperature=0) == written != ""
    with kun.load(run.checkpoint, quantize="int8") as lm:
        assert lm.generate("The northern sea", max_tokens=8, temperature=0)


def test_the_task_of_the_walk_learns_and_tells_its_own_figure(
    install: Install, recipe: Callable[..., Path]
) -> None:
    install("z_loss.py")
    run = kun.train(recipe("gpt2", '[objective]\nname = "z_loss"\nz = 1.0\n'))
    assert run.metrics[-1]["loss"] < 0.7 * run.metrics[0]["loss"]
    assert abs(run.metrics[-1]["eval_log_z"]) < 2


def test_the_kind_of_the_walk_is_opened_by_what_lies_there_and_saved(
    install: Install, tmp_path: Path
) -> None:
    install("unigrams.py")
    (tmp_path / "counts").mkdir()
    (tmp_path / "counts" / "unigrams.json").write_text('{"鲲": 7, "fish": 1}', encoding="utf-8")
    words = kun.load(tmp_path / "counts")
    assert words.name == "counts"
    assert words.log_p("鲲") > words.log_p("fish") > words.log_p("whale")
    again = kun.load(kun.save(words, tmp_path / "copy"))
    assert again.counts == words.counts
