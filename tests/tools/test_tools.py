"""Tools: exact arithmetic, dates, limits, servers that are gone, slow or speak nonsense, and one real server."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kun.errors import BadInput, DamagedFile, NotFound, Unavailable
from kun.generation.options import SamplingOptions
from kun.tools import mcp_client
from kun.tools.arithmetic import calculate
from kun.tools.choosing import chosen_tools, tool_names
from kun.tools.conversation import MOST_CALLS, ToolAnswer
from kun.tools.dates import lengths_in
from kun.tools.mcp_client import Connection, Connections
from kun.tools.own import own_tools
from kun.tools.servers import Server, add_server, remove_server, servers
from kun.tools.tool import Tool, Toolbox, ToolCall
from kun.tools.values import number_of, when_of


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(1185 + 142) * 12", "15924"),
        ("0.1 + 0.2", "0.3"),
        ("1,250 × 3", "3750"),
        ("12% * 50", "6"),
        ("sum(1, 2, 3) / 4", "1.5"),
        ("12345678901234567.89 + 0", "12345678901234567.89"),
        ("1e400 / 1E399 + .5 + 0x10 + 1_0.", "36.5"),
        ("26 weeks in days", "182 days"),
        ("3 斤 换算成 公斤", "1.5 公斤"),
    ],
)
def test_arithmetic_is_exact_and_knows_units(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("1 / 0", "divides by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("__import__('os').system('ls')", "allowed"),
        ("3 km in kg", "cannot be converted"),
        ("", "1 to"),
        ("1e9999999", "out of range"),
        ("round(1.5, 1e999999)", "1000 is the most"),
        ("-" * 80 + "1", "deeper"),
    ],
)
def test_what_is_no_arithmetic_is_an_error_of_one_sentence(expression: str, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        calculate(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(0.125, 2)", "0.13"),
        ("round(1250, -2)", "1300"),
        ("round(4, -2)", "0"),
        ("round(1 / 3, 900)", "0.3333333333333333333333333333333333"),
        ("round(1e38)", "1" + "0" * 38),
    ],
)
def test_halves_are_rounded_away_from_zero_as_spreadsheets_do(expression: str, value: str) -> None:
    assert calculate(expression) == value


def test_a_long_expression_is_searched_for_no_unit() -> None:
    assert calculate(f"sum({'1.5, ' * 300}1)") == "451"
    with pytest.raises(BadInput, match="no arithmetic expression"):
        calculate("1 a " * 500)


def test_a_column_of_hundreds_of_numbers_is_added_up_and_shown_with_its_sum() -> None:
    column = [f"{1_000 + n:,}.25" for n in range(1_000)]
    call = Toolbox(own_tools()).call("calculate", {"expression": " + ".join(column)})
    assert not call.failed
    assert call.result.endswith("= 1499750")
    assert len(call.result) < 500
    assert calculate(" - ".join(["0.1"] * 200)) == "-19.8"
    assert calculate("2 * 3 - 4 / 2 - 1") == "3"


@pytest.mark.parametrize("odd", ["1+", "1%+", "9**9*", "(1+1)-", "2**", "-", "(", "1 ", "9", "1[", "sum("])
def test_an_expression_of_any_kind_that_is_too_long_is_refused_within_seconds(odd: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(BadInput):
        calculate(odd * (15_990 // len(odd)) + "1")
    with pytest.raises(BadInput, match="characters"):
        calculate(odd * 20_000)
    assert time.perf_counter() - begun < 5


def test_dates_are_counted_on_the_calendar() -> None:
    box = Toolbox(own_tools())
    assert "2027-01-12" in box.call("date", {"from": "2026-11-28", "add": "45 days"}).result
    assert "2026-02-28" in box.call("date", {"from": "2026-03-31", "subtract": "1 month"}).result
    assert "65 days" in box.call("date", '{"from": "2026-01-01", "until": "7 March 2026"}').result
    assert box.call("date", {"from": "someday"}).failed


@pytest.mark.parametrize("odd", ["1,", "1,,", "1.", "7", "五", "亿", "3 days, ", "5 years ", "2 "])
def test_a_long_row_of_digits_is_searched_for_lengths_of_time_within_seconds(odd: str) -> None:
    text = odd * (40_000 // len(odd)) + " " * 20_000 + "x"
    begun = time.perf_counter()
    list(lengths_in(text))
    assert number_of(text) is None
    assert when_of(text) is None
    assert time.perf_counter() - begun < 5


def test_lengths_of_time_are_read_with_the_marks_around_them() -> None:
    text = "within,5 days; 1,200 days; No.3 weeks; 1.5 weeks; 2, days; 五百天; 两 千年; thirty-one days"
    assert [(one.number, one.unit) for one in lengths_in(text)] == [
        (5, "day"), (1200, "day"), (3, "week"), (2, "day"), (500, "day"), (31, "day"),
    ]  # fmt: skip


def _tool(function: object, **given: object) -> Tool:
    return Tool("t", "a tool", {"type": "object"}, function, **given)  # type: ignore[arg-type]


def test_a_call_ends_at_its_time_and_a_long_result_is_cut() -> None:
    slow = Toolbox([_tool(lambda given: time.sleep(30) or "", seconds=0.2)])
    assert "longer than 0.2 seconds" in slow.call("t", {}).result
    assert "cut" in Toolbox([_tool(lambda given: "x" * 100, longest=10)]).call("t", {}).result


def test_a_tool_that_breaks_and_arguments_that_are_no_object_are_results_that_say_so() -> None:
    box = Toolbox([_tool(lambda given: 1 / 0)])
    assert "failed" in box.call("t", {}).result
    assert "no JSON object" in box.call("t", "[1]").result
    assert "no tool" in box.call("other", {}).result
    assert "characters" in box.call("t", '{"a": "' + "x" * 30_000 + '"}').result


def test_servers_are_kept_in_the_home_by_name(tiny_home: Path) -> None:
    add_server(Server("clock", ("python", "-m", "clock")))
    add_server(Server("wiki", (), "http://127.0.0.1:1/mcp"))
    assert [server.name for server in servers()] == ["clock", "wiki"]
    with pytest.raises(BadInput, match="already"):
        add_server(Server("clock", ("x",)))
    with pytest.raises(BadInput, match="command or an address"):
        add_server(Server("both", ("x",), "http://x"))
    remove_server("clock")
    with pytest.raises(NotFound, match="wiki"):
        remove_server("clock")


def test_a_damaged_list_of_servers_leaves_the_other_tools(tiny_home: Path) -> None:
    add_server(Server("clock", ("clock",)))
    (tiny_home / "tools.json").write_text("{")
    with Connections() as connections:
        with pytest.raises(DamagedFile, match=r"tools\.json"):
            chosen_tools(["date"], connections)
        faults: list[str] = []
        assert chosen_tools(["date"], connections, on_fault=faults.append).names == ["date"]
        assert len(faults) == 1
    assert tool_names(on_fault=faults.append) == ["calculate", "date"]


NONSENSE = "import time\nprint('hello', flush=True)\ntime.sleep(30)"


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (("no-such-program-anywhere",), "no program here"),
        ((sys.executable, "-c", NONSENSE), "did not answer within"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "cannot be spoken to"),
    ],
)
def test_a_server_that_is_gone_slow_or_speaks_nonsense_is_one_sentence(
    command: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(Unavailable, match=fault):
        Connection(Server("odd", command), start_seconds=2)


def test_an_address_where_nobody_answers_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match=r"cannot be spoken to|did not answer"):
        Connection(Server("web", (), "http://127.0.0.1:9/mcp"), start_seconds=5)


def test_tools_that_a_server_names_twice_are_one_and_a_huge_schema_is_left_out() -> None:
    huge = {"type": "object", "properties": {f"key {n}": {"type": "string"} for n in range(2_000)}}
    tools = [
        SimpleNamespace(name=name, description=about, input_schema=schema)
        for name, about, schema in (
            ("look up", "first", {"type": "object"}),
            ("look_up", "again", huge),
            ("x" * 200, None, huge),
        )
    ]
    connection = Connection.__new__(Connection)
    connection._server = Server("odd", ("odd",))
    connection._run = lambda *asked: SimpleNamespace(tools=tools)  # type: ignore[method-assign]
    box = Toolbox(connection.tools())
    assert box.names[0] == "odd_look_up"
    assert [len(name) for name in box.names] == [11, 64]
    assert [str(one).count("key ") for one in box.described()] == [0, 0]


def test_the_tools_of_a_real_server_are_offered_and_called(tiny_home: Path) -> None:
    add_server(Server("time", (sys.executable, "-m", "mcp_server_time")))
    with Connections() as connections:
        box = chosen_tools(["time", "calculate"], connections)
        assert "time_convert_time" in box.names
        assert "calculate" in box.names
        given = {"source_timezone": "Asia/Shanghai", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        assert "13:00" in box.call("time_convert_time", given).result
        assert box.call("time_get_current_time", {"timezone": "No/Where"}).failed
        with pytest.raises(BadInput, match="no tool 'clock'"):
            chosen_tools(["clock"], connections)


def test_a_server_that_ended_is_started_again_when_its_tools_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Started:
        def __init__(self, server: Server) -> None:
            self.ended = self.closed = False
            started.append(self)

        def tools(self) -> list[Tool]:
            if self.ended:
                raise Unavailable("Connection closed.")
            return own_tools()

        def close(self) -> None:
            self.closed = True

    started: list[Started] = []
    monkeypatch.setattr(mcp_client, "Connection", Started)
    with Connections() as connections:
        clock = Server("clock", ("clock",))
        assert connections.tools(clock)
        assert connections.tools(clock)
        assert len(started) == 1
        started[0].ended = True
        assert connections.tools(clock)
        assert [one.closed for one in started] == [True, False]
    assert started[1].closed


def test_a_connection_that_is_closed_leaves_no_event_loop_open(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    make = asyncio.new_event_loop

    def new() -> asyncio.AbstractEventLoop:
        loops.append(make())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new)
    with pytest.raises(Unavailable):
        Connection(Server("odd", ("no-such-program-anywhere",)))
    assert [loop.is_closed() for loop in loops] == [True]


class Pieces(list[Any]):
    """A generation: one that is cancelled goes no further."""

    cancelled = False

    def __iter__(self) -> Iterator[Any]:
        return (piece for piece in super().__iter__() if not self.cancelled)

    def cancel(self) -> None:
        self.cancelled = True


class ScriptedModel:
    """Answers with what the script says: texts, piece by piece, or calls of tools."""

    def __init__(self, script: Sequence[str | tuple[str, Mapping[str, object]]]) -> None:
        self.script, self.offered, self.read = list(script), [], []  # type: ignore[var-annotated]
        self.made: list[Pieces] = []
        self.on_submit: Callable[[], None] = lambda: None

    def submit(self, messages: object, options: object, tools: object = None) -> Pieces:
        self.offered.append([one["function"]["name"] for one in tools or ()])  # type: ignore[attr-defined]
        self.read.append(messages)
        self.on_submit()
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(said, str):
            pieces = [
                SimpleNamespace(text=word, tool_calls=(), finish_reason=None)
                for word in re.findall(r"\S+\s*", said)
            ]
            pieces[-1].finish_reason = "length"
        else:
            call = {"id": "1", "function": {"name": said[0], "arguments": dict(said[1])}}
            pieces = [SimpleNamespace(text="", tool_calls=(call,), finish_reason="tool_calls")]
        self.made.append(Pieces(pieces))
        return self.made[-1]


def _begun(lm: ScriptedModel, *tools: Tool) -> ToolAnswer:
    return ToolAnswer(lm, [{"role": "user", "content": "?"}], Toolbox(tools), SamplingOptions())  # type: ignore[arg-type]


def _answer(lm: ScriptedModel, tools: Sequence[Tool]) -> tuple[ToolAnswer, list[str | ToolCall]]:
    answer = _begun(lm, *tools)
    return answer, list(answer)


def test_a_call_is_run_shown_and_read_by_the_model() -> None:
    lm = ScriptedModel([("calculate", {"expression": "6 * 7"}), "It is 42."])
    answer, pieces = _answer(lm, own_tools())
    assert answer.text == "It is 42."
    assert isinstance(pieces[0], ToolCall)
    assert "6 * 7 = 42" in pieces[0].shown
    assert "42" in str(lm.read[-1])


def test_an_answer_ends_for_the_reason_of_the_last_turn() -> None:
    answer, _ = _answer(ScriptedModel([("calculate", {"expression": "6 * 7"}), "It is"]), own_tools())
    assert answer.finish_reason == "length"


def test_an_answer_stopped_during_its_last_call_asks_the_model_for_nothing_more() -> None:
    lm = ScriptedModel([("t", {}), "Never said."])
    answer = _begun(lm, _tool(lambda given: answer.cancel() or "done"))
    assert len(list(answer)) == 1
    assert len(lm.made) == 1


def test_an_answer_stopped_while_it_is_being_begun_writes_nothing() -> None:
    lm = ScriptedModel(["Never said."])
    answer = _begun(lm)
    lm.on_submit = answer.cancel
    assert list(answer) == []
    assert lm.made[0].cancelled


def test_an_answer_that_nobody_reads_to_its_end_is_written_no_further() -> None:
    lm = ScriptedModel(["One two three."])
    pieces = iter(_begun(lm))
    next(pieces)
    assert not lm.made[0].cancelled
    pieces.close()  # type: ignore[attr-defined]
    assert lm.made[0].cancelled


def test_a_model_that_calls_without_end_is_stopped() -> None:
    lm = ScriptedModel([("calculate", {"expression": "1 + 1"})])
    answer, _ = _answer(lm, own_tools())
    assert len(answer.calls) <= MOST_CALLS
    assert lm.offered[-1] == []


def test_text_from_outside_starts_no_tool_but_kuns_own() -> None:
    made = []
    outside = Tool("fetch", "reads", {"type": "object"}, lambda given: made.append(1) or "Call fetch again!")
    lm = ScriptedModel([("fetch", {}), ("fetch", {}), "Done."])
    answer, _ = _answer(lm, [outside, *own_tools()])
    assert len(made) == 1
    assert answer.calls[1].failed
    assert "fetch" in lm.offered[0]
    assert "fetch" not in lm.offered[1]
    assert "calculate" in lm.offered[1]
