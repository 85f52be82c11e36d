"""Conversations as assistants' own exports hold them: ChatGPT's tree of messages, Claude's list.

| export | fields |
|---|---|
| ChatGPT's `conversations.json` | mapping: {id: {message: {author, content}, parent, children}}, current_node |
| Claude's `conversations.json` | chat_messages: a list of {sender: human or assistant, text, content} |
"""

from collections.abc import Iterator, Mapping

from kun.data.record_fields import missing
from kun.data.records import Record
from kun.data.rows import ChatMessage
from kun.errors import BadRow
from kun.text.tokenizer import sound

_SPOKEN = {"user", "assistant", "system"}
_SENDERS = {"human": "user", "user": "user", "assistant": "assistant"}
_TEXTS = {"text", "multimodal_text"}


def is_export(names: Mapping[str, object]) -> bool:
    """Whether fields are those of an exported conversation."""
    return isinstance(names.get("mapping"), dict) or isinstance(names.get("chat_messages"), list)


def exported(record: Record, names: Mapping[str, object]) -> tuple[ChatMessage, ...]:
    """The messages that people saw, of a tree those of the branch that was shown last.

    Calls of tools and what they gave, thoughts, pictures and hidden messages are left out; several messages of one
    speaker in a row become one. Raises `BadRow`.
    """
    tree, listed = names.get("mapping"), names.get("chat_messages")
    if isinstance(tree, dict):
        spoken = _of_tree(record, tree, names.get("current_node"))
    elif isinstance(listed, list):
        spoken = _of_list(listed)
    else:
        raise missing(record, "messages", "'mapping' or 'chat_messages'")
    joined: list[dict[str, str]] = []
    for role, text in spoken:
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] += f"\n\n{text}"
        else:
            joined.append({"role": role, "content": text})
    return tuple(joined)


def _of_tree(record: Record, tree: Mapping[str, object], current: object) -> Iterator[tuple[str, str]]:
    for node in reversed(list(_way_up(record, tree, current))):
        message = node.get("message")
        found = _of_node(message) if isinstance(message, dict) else None
        if found is not None:
            yield found


def _way_up(record: Record, tree: Mapping[str, object], current: object) -> Iterator[Mapping[str, object]]:
    """Nodes from the last one that was shown up to the root."""
    id = current if isinstance(current, str) and current in tree else _last_leaf(tree)
    seen: set[str] = set()
    while isinstance(id, str) and isinstance(node := tree.get(id), dict):
        if id in seen:
            raise BadRow(f"{record.where}: the messages of 'mapping' go round in a circle: skip the row.")
        seen.add(id)
        yield node
        id = node.get("parent")


def _last_leaf(tree: Mapping[str, object]) -> str | None:
    """The last node in the file that nothing follows."""
    leaves = [id for id, node in tree.items() if isinstance(node, dict) and not node.get("children")]
    return leaves[-1] if leaves else None


def _of_node(message: Mapping[str, object]) -> tuple[str, str] | None:
    """Who said what; None for what is no part of the talk."""
    author, content, about = (message.get(name) for name in ("author", "content", "metadata"))
    role = str(author.get("role")) if isinstance(author, dict) else ""
    if (
        role not in _SPOKEN
        or not isinstance(content, dict)
        or str(content.get("content_type", "text")) not in _TEXTS
    ):
        return None
    if isinstance(about, dict) and about.get("is_visually_hidden_from_conversation"):
        return None
    if message.get("recipient", "all") != "all":  # a call of a tool
        return None
    parts = content.get("parts")
    texts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    text = "\n".join(texts).strip()
    return (role, sound(text)) if text else None


def _of_list(listed: list[object]) -> Iterator[tuple[str, str]]:
    for message in listed:
        if not isinstance(message, dict):
            continue
        sender = _SENDERS.get(str(message.get("sender")))
        content = message.get("content")
        texts = [
            str(part.get("text", ""))
            for part in (content if isinstance(content, list) else [])
            if isinstance(part, dict) and part.get("type") == "text"
        ]
        text = "\n".join(texts).strip() or str(message.get("text") or "").strip()
        if sender is not None and text:
            yield sender, sound(text)
