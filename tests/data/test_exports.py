"""Conversations that people export from ChatGPT and Claude, read as messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from kun.data.formats import detect, to_row
from kun.data.records import Record
from kun.data.rows import Conversation
from kun.data.sources import Rows
from kun.errors import BadRow


def node(
    id: str, parent: str | None, children: list[str], role: str, *parts: Any, **more: Any
) -> dict[str, Any]:
    message = {"author": {"role": role}, "content": {"content_type": "text", "parts": list(parts)}, **more}
    return {id: {"id": id, "parent": parent, "children": children, "message": message}}


def tree() -> dict[str, Any]:
    """A question that was asked again in other words; the second branch is the one that was shown last."""
    return {
        "title": "Fish",
        "current_node": "f",
        "mapping": {
            "root": {"id": "root", "parent": None, "children": ["s"], "message": None},
            **node("s", "root", ["a", "c"], "system", ""),
            **node("a", "s", ["b"], "user", "What is a kun?"),
            **node("b", "a", [], "assistant", "A bird."),
            **node("c", "s", ["d"], "user", "What is a kun, in Zhuangzi?"),
            **node("d", "c", ["t"], "assistant", 'search("kun")', recipient="browser"),
            **node("t", "d", ["e"], "tool", "kun: a fish"),
            **node("e", "t", ["f"], "assistant", "A fish"),
            **node("f", "e", [], "assistant", {"asset_pointer": "file://x"}, "of the northern sea."),
        },
    }


def read(value: Any) -> Any:
    record = Record("conversations.json:1", value)
    assert detect(record) == "messages"
    return to_row(record, "messages")


def test_of_a_tree_the_branch_that_was_shown_last_is_read_without_tools() -> None:
    row = read(tree())
    assert isinstance(row, Conversation)
    assert row.messages == (
        {"role": "user", "content": "What is a kun, in Zhuangzi?"},
        {"role": "assistant", "content": "A fish\n\nof the northern sea."},
    )


def test_without_a_current_message_the_last_leaf_is_taken() -> None:
    value = tree()
    del value["current_node"]
    assert read(value).messages[-1]["content"].endswith("northern sea.")


def test_hidden_messages_and_thoughts_are_left_out() -> None:
    value = tree()
    value["mapping"]["e"]["message"]["metadata"] = {"is_visually_hidden_from_conversation": True}
    value["mapping"]["f"]["message"]["content"] |= {"content_type": "thoughts"}
    with pytest.raises(BadRow, match="without an answer"):
        read(value)


def test_a_tree_that_goes_round_in_a_circle_is_a_bad_row() -> None:
    value = tree()
    value["mapping"]["c"]["parent"] = "f"
    with pytest.raises(BadRow, match=r"conversations\.json:1.*circle"):
        read(value)


def test_claudes_list_is_read_by_its_senders() -> None:
    messages = [
        {"sender": "human", "text": "鲲是什么？"},
        {"sender": "assistant", "text": "", "content": [{"type": "text", "text": "北冥的一条鱼。"}]},
    ]
    assert [one["content"] for one in read({"uuid": "1", "chat_messages": messages}).messages] == [
        "鲲是什么？",
        "北冥的一条鱼。",
    ]


def test_a_whole_file_is_read_and_empty_conversations_are_counted(tmp_path: Path) -> None:
    empty = {"title": "New chat", "mapping": {"root": {"id": "root", "parent": None, "children": []}}}
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([tree(), empty]), encoding="utf-8")
    rows = Rows(str(path), skip_bad=True)
    assert len(list(rows)) == 1
    assert rows.bad.count == 1
