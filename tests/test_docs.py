"""README and docs as shown: commands that exist, settings and defaults that are so, links that lead somewhere."""

import ast
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
from starlette.routing import Route
from typer.exceptions import TyperException

import kun
from kun.alignment.tasks.dpo import Dpo
from kun.alignment.tasks.grpo import Grpo
from kun.alignment.tasks.ppo import Ppo
from kun.alignment.tasks.reward import Reward
from kun.cli.app import app
from kun.generation.options import SamplingOptions
from kun.hub.catalog import catalog
from kun.server.app import create_app
from kun.server.service import Service
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL, Settings
from kun.training.recipe import Recipe, parse_override, read_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("README*.md"), ROOT / "CHANGELOG.md", ROOT / "docs" / "decisions.md"]
    + [path for language in ("en", "zh") for path in (ROOT / "docs" / language).glob("*.md")]
    + list((ROOT / "docs").glob("*/families/*.md"))
)
FENCE = re.compile(
    r"^(?P<fence>```+) ?(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
CODE = re.compile(r"`(kun [^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
EXAMPLE = re.compile(r"examples/[\w./-]+\.(?:toml|tsv|jsonl)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Every `kun …` of a page, and whether it is a line of a block, to be typed as it is."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found["kind"] in ("", "console", "bash", "sh"):
            for line in found["body"].replace("\\\n", " ").splitlines():
                bare = re.sub(r"^\s*(\$ |[A-Z_]+=\S+ )*", "", line)
                if bare.startswith("kun "):
                    yield bare, True
    yield from ((found[1], False) for found in CODE.finditer(FENCE.sub("", text)))


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def all_commands() -> list[tuple[str, str, bool]]:
    return [(name_of(page), *shown) for page in PAGES for shown in dict.fromkeys(commands(page))]


@pytest.mark.parametrize(("page", "line", "whole"), all_commands())
def test_every_command_that_is_shown_is_one_that_kun_takes(page: str, line: str, whole: bool) -> None:
    command, words = typer.main.get_command(app), words_of(line)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"{page}: {line}"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    assert set(options) <= known | {"-h", "--help", "--debug"}, f"{page}: {line}"
    if words and "…" not in line:
        try:
            command.make_context("kun", list(words), resilient_parsing=False)
        except TyperException as error:
            if whole or type(error).__name__ != "MissingParameter":
                pytest.fail(f"{page}: {line}: {error}")
        except typer.Exit:
            pass


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_recipe_and_task_that_is_shown_is_there_and_takes_its_overrides(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in EXAMPLE.findall(text):
        assert (ROOT / path).is_file(), f"{page}: {path}"
    for line, _ in commands(ROOT / page):
        words = words_of(line)
        if words[:1] == ["train"] and len(words) > 1 and words[1].startswith("examples/"):
            overrides = dict(parse_override(value) for flag, value in pairwise(words) if flag == "-o")
            read_recipe(ROOT / words[1], overrides)


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_link_leads_to_a_file(page: str) -> None:
    for target in LINK.findall(FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:|#", target):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_python_example_compiles_and_uses_names_that_kun_has(page: str) -> None:
    for found in FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        if found["kind"] != "python":
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(found["body"]))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "kun"
            ):
                assert node.attr == "api" or hasattr(kun, node.attr), f"{page}: kun.{node.attr}"


def table(page: str, heading: str) -> list[list[str]]:
    """Rows of the first table below a heading of a page."""
    after = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    assert after, f"{page} has no heading {heading}"
    rows = [line for line in after.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[2:]]


SIZES = {"MiB": 2**20, "GiB": 2**30}


@pytest.mark.parametrize(
    ("page", "heading"),
    [("docs/en/start.md", "## Where things are"), ("docs/zh/start.md", "## 东西放在哪里")],
)
def test_every_setting_stands_in_the_table_with_its_default(page: str, heading: str) -> None:
    shown = {row[0].strip("`"): row[1] for row in table(page, heading)}
    known = {f"KUN_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    assert set(shown) <= set(known)
    for name, value in shown.items():
        if found := re.fullmatch(r"(\d+)(?: (MiB|GiB))?", value):
            assert int(found[1]) * SIZES.get(found[2], 1) == known[name], name
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / page).parent.glob("*.md"))
    assert [name for name in known if name not in pages] == []


@pytest.mark.parametrize(
    ("page", "heading"), [("docs/en/generating.md", "## Options"), ("docs/zh/generating.md", "## 选项")]
)
def test_every_option_of_generation_stands_in_the_table_with_its_default(page: str, heading: str) -> None:
    shown: dict[str, str] = {}
    for row in table(page, heading):
        names, values = re.findall(r"`(\w+)`", row[0]), re.split("[,、，] ?", row[1].partition("；")[0])
        if len(names) == len(values):
            shown |= dict(zip(names, values, strict=True))
        else:
            shown |= dict.fromkeys(names, row[1])
    fields = SamplingOptions.__dataclass_fields__
    assert set(fields) - set(shown) <= {"logit_bias", "ignore_eos"}
    assert set(shown) <= set(fields)
    for name, value in shown.items():
        if re.fullmatch(r"[\d.]+", value):
            assert float(value) == fields[name].default, name
        elif value in ("none", "无"):
            assert fields[name].default in (None, ()), name
        elif value in ("no", "否"):
            assert fields[name].default is False, name


@pytest.mark.parametrize(
    ("page", "heading"),
    [("docs/en/training.md", "## The tables of a recipe"), ("docs/zh/training.md", "## 配方里的各张表")],
)
def test_every_key_of_a_recipe_stands_in_the_table(page: str, heading: str) -> None:
    shown = {name for row in table(page, heading) for name in re.findall(r"`\[?(\w+)\]?`", " ".join(row))}
    known = set(Recipe.model_fields)
    for field in Recipe.model_fields.values():
        fields = getattr(field.annotation, "model_fields", {})
        known |= {inner.alias or name for name, inner in fields.items()}
    assert known <= shown


OF_REWARDS = (Reward, Dpo, Ppo, Grpo)


@pytest.mark.parametrize(
    ("page", "heading", "yes"),
    [("docs/en/rewards.md", "## Keys", "yes"), ("docs/zh/rewards.md", "## 各个键", "是")],
)
def test_every_key_of_alignment_stands_in_the_table_with_its_default_and_stages(
    page: str, heading: str, yes: str
) -> None:
    shown = {row[0].strip("`"): (row[1], set(re.findall(r"\w+", row[2]))) for row in table(page, heading)}
    known = {name: field.default for task in OF_REWARDS for name, field in task.Options.model_fields.items()}
    assert set(shown) == set(known)
    for name, (value, stages) in shown.items():
        assert stages == {task.name for task in OF_REWARDS if name in task.Options.model_fields}, name
        default = known[name]
        if value == yes:
            assert default is True, name
        elif re.fullmatch(r"[\d.]+", value):
            assert float(value) == default, name
        else:
            assert value.strip('`"') in (default, "none", "无", ""), name
            assert default or value in ("none", "无", ""), name


READMES = {"README.md": "What is downloaded", "README.zh-CN.md": "要下载什么"}


def megabytes(cell: str) -> float:
    found = re.match(r"([\d,.]+) (MB|GB)", cell)
    assert found, cell
    return float(found[1].replace(",", "")) * (1000 if found[2] == "GB" else 1)


@pytest.mark.parametrize("page", READMES)
def test_the_models_of_the_readme_are_as_large_as_the_catalog_says(page: str) -> None:
    rows = {
        found[1]: row for row in table(page, f"## {READMES[page]}") if (found := re.search("`(.+)`", row[0]))
    }
    assert {DEFAULT_MODEL, DEFAULT_ENCODER} <= set(rows)
    for name, row in rows.items():
        wheel = catalog()[name].wheel
        assert wheel is not None
        assert megabytes(row[1]) == pytest.approx(wheel.bytes / 1e6, abs=1), name
        assert megabytes(row[2]) == pytest.approx(wheel.bytes / 1e6, abs=1), name


@pytest.mark.skipif(sys.platform != "linux", reason="the README gives the sizes of Linux")
def test_the_packages_take_the_space_that_the_readme_gives() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [found[0] for line in lines if (found := re.match(r"[A-Za-z0-9_.-]+", line))]
    taken = 0
    for name in names:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue  # another platform's
        taken += sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    for page, heading in READMES.items():
        assert megabytes(table(page, f"## {heading}")[0][2]) == pytest.approx(taken / 1e6, rel=0.2)


def test_both_readmes_show_the_same_figures() -> None:
    for english, chinese in (
        ("## Why Kun", "## 为什么用 Kun"),
        ("## What is downloaded", "## 要下载什么"),
        ("## What works", "## 哪些能用"),
    ):
        figures = [
            [
                re.findall(r"\d+(?:[,.]\d+)*", " ".join(row[: 1 if "works" in english else None]))
                for row in table(*place)
            ]
            for place in (("README.md", english), ("README.zh-CN.md", chinese))
        ]
        assert figures[0] == figures[1] != []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_tree_of_the_house_shows_every_room(language: str) -> None:
    text = (ROOT / "docs" / language / "develop.md").read_text(encoding="utf-8")
    tree = next(found["body"] for found in FENCE.finditer(text))
    rooms = {path.parent.name for path in (ROOT / "src" / "kun").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^(\w+)/", tree, re.MULTILINE))
    assert set(re.findall(r"\w+\.py", tree)) <= {
        path.name for path in (ROOT / "src" / "kun").glob("*.py")
    } | {"api.py"}


def test_every_make_target_that_is_shown_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE)
        assert {one or other for one, other in shown} <= targets, page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_path_of_the_api_that_is_shown_is_served(language: str) -> None:
    text = (ROOT / "docs" / language / "api.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`(?:GET|POST|DELETE) (/[\w/.{}-]+)`", text))
    service = Service(DEFAULT_MODEL)
    served = {route.path for route in create_app(service, web=False).routes if isinstance(route, Route)}
    assert paths
    assert paths <= served


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    for page in ("handbook/01-transformer", "zh/handbook/01-transformer"):
        text = (tmp_path / page / "index.html").read_text(encoding="utf-8")
        (picture,) = re.findall(r'src="([^"]+/transformer\.svg)"', text)
        assert (tmp_path / page / picture).is_file()
