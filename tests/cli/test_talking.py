"""`kun generate` and `kun chat`, in a pipe."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import ENGLISH_ONLY, Kun

from kun import api
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL


def texts(*line: object, kun: Kun, **given: Any) -> list[dict[str, Any]]:
    ran = kun("generate", DEFAULT_MODEL, *line, "--max-tokens", 6, "--json", **given)
    assert (ran.code, ran.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def test_prompts_go_in_as_they_are_and_come_back_with_their_texts(kun: Kun) -> None:
    rows = texts("-p", "你好", "-p", "hello", "--n", 2, "--seed", 3, kun=kun)
    assert [row["prompt"] for row in rows] == ["你好", "hello"]
    assert [len(row["texts"]) for row in rows] == [2, 2]
    assert rows == texts("-p", "你好", "-p", "hello", "--n", 2, "--seed", 3, kun=kun)


def test_a_prompt_is_read_from_standard_input_and_a_stream_says_what_the_whole_says(kun: Kun) -> None:
    [read] = texts("--temperature", 0, kun=kun, stdin="大海 ")
    assert read["prompt"] == "大海 "
    line = ("generate", DEFAULT_MODEL, "-p", "-", "--max-tokens", 6, "--temperature", 0)
    assert kun(*line, stdin="大海 ").out == read["texts"][0] + "\n"


def test_beams_bring_out_the_likeliest_answers_as_in_python(kun: Kun) -> None:
    [found] = texts("-p", "hello", "--beams", 3, "--n", 2, kun=kun)
    assert len(set(found["texts"])) == 2
    with api.load_language_model(DEFAULT_MODEL) as lm:
        assert found["texts"] == lm.generate("hello", beams=3, n=2, max_tokens=6)
        long = lm.generate("hello", beams=3, length_penalty=4.0, max_tokens=6)
    line = ("generate", DEFAULT_MODEL, "-p", "hello", "--beams", 3, "--max-tokens", 6)
    assert kun(*line).out.startswith(found["texts"][0])
    assert kun(*line, "--length-penalty", 4).out.startswith(long)


def test_several_models_are_asked_the_same_and_shown_side_by_side(kun: Kun, tmp_path: Path) -> None:
    page = tmp_path / "answers.html"
    line = ("generate", DEFAULT_MODEL, "--against", ENGLISH_ONLY, "--chat", "-p", "hello", "-p", "<b>")
    line += ("--temperature", 0, "--max-tokens", 6)
    ran = kun(*line, "--report", page)
    assert ran.code == 0, ran.err
    assert ran.out.index(DEFAULT_MODEL) < ran.out.index(ENGLISH_ONLY)
    rows = json.loads(kun(*line, "--json").out)
    assert [(row["prompt"], row["model"]) for row in rows] == [
        (prompt, model) for prompt in ("hello", "<b>") for model in (DEFAULT_MODEL, ENGLISH_ONLY)
    ]
    assert rows[0]["texts"] == texts("-p", "hello", "--chat", "--temperature", 0, kun=kun)[0]["texts"]
    shown = page.read_text(encoding="utf-8")
    assert shown.count("<h2>") == 2
    assert "<b>" not in shown
    assert kun(*line, "--report", tmp_path / "answers.pdf").code != 0


def test_a_message_goes_through_the_chat_template(kun: Kun) -> None:
    plain = texts("-p", "hello", "--temperature", 0, kun=kun)
    chat = texts("-p", "hello", "--temperature", 0, "--chat", kun=kun)
    assert plain != chat


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--temperature", -1, "temperature is -1.0"),
        ("--max-tokens", 0, "max_tokens is 0"),
        ("--n", 0, "n is 0"),
        ("--beams", 0, "beams is 0"),
        ("--length-penalty", 2, "more than one beam"),
        ("--top-p", 2, "top_p is 2.0"),
        ("--stop", "", "stop holds ''"),
        ("--quantize", "int3", "int4"),
    ],
)
def test_an_option_out_of_range_is_refused_before_any_model_is_looked_for(
    kun: Kun, option: str, value: Any, words: str
) -> None:
    ran = kun("generate", "absent-model", "-p", "x", option, value)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_too_long_a_prompt_is_refused_or_cut_where_that_is_asked_for(kun: Kun) -> None:
    long = "word " * 4100
    ran = kun("generate", DEFAULT_MODEL, stdin=long)
    assert ran.code == 1
    assert "4096" in ran.err
    assert kun("generate", DEFAULT_MODEL, "--max-tokens", 2, "--truncate", stdin=long).code == 0


def test_an_encoder_writes_nothing(kun: Kun) -> None:
    ran = kun("generate", DEFAULT_ENCODER, "-p", "x")
    assert ran.code == 2
    assert "is no language model and writes no text" in ran.err


def test_each_line_of_a_pipe_is_a_message_and_commands_are_obeyed(kun: Kun) -> None:
    def said(lines: str) -> str:
        ran = kun("chat", "--max-tokens", 8, "--temperature", 0, stdin=lines)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    hello, help_ = said("hello\n"), said("/help\n")
    assert "/retry" in help_
    assert said("hello\n/retry\n\n/new\nhello\n") == hello * 3
    assert said("hello\nhello\n") != hello * 2  # the second has a turn before it
    assert said("/nonsense\n/retry\n") == help_ * 2
    assert said("/system Be short.\nhello\n") != hello
    assert said("hello\n/quit\nnever read\n") == hello


def test_a_message_that_begins_with_a_path_is_a_message(kun: Kun) -> None:
    ran = kun("chat", "--max-tokens", 4, stdin="/etc/hosts is what?\n")
    assert "/retry" not in ran.out


def test_a_knowledge_base_answers_in_a_conversation_with_its_sources(kun: Kun, docs: Any) -> None:
    assert kun("kb", "add", "notes", docs).code == 0
    ran = kun("chat", ENGLISH_ONLY, "--kb", "notes", stdin="鹏之背有多长？\n它有几千里？\n")
    assert ran.code == 0
    assert ran.out.count("鹏之背，不知其几千里也。 [1]") == 2
    assert ran.out.count("\n[1] zh/大 鹏.md · 鹏\n") == 2
    assert kun("chat", "--kb", "notes", "--system", "x").code == 2
    assert kun("chat", "--kb", "absent").code == 1
