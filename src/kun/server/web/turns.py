"""Answers being written. Each has a thread of its own, so that it goes on when its page is reloaded or closed."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from kun.errors import Busy, KunError
from kun.server.conversations import (
    AnswerDetails,
    Conversation,
    Conversations,
    PlainCall,
    PlainPassage,
    Status,
    StoredMessage,
)
from kun.settings import settings

if TYPE_CHECKING:
    from kun.generation.results import Generation
    from kun.knowledge.passage import Passage
    from kun.models.language_model import LanguageModel
    from kun.server.service import Service
    from kun.server.toolboxes import Toolboxes
    from kun.tools.tool import BegunCall, ToolCall

log = logging.getLogger(__name__)

MAX_ANSWER_TOKENS = 1024
_STORE_EVERY_S = 1.0

Stage = Literal["loading", "searching", "starting", "calling", "thinking", "writing"]


@dataclass
class Turn:
    """One running answer, `asked` at a moment of the monotonic clock. `version` grows with every change to show."""

    owner: str
    conversation: Conversation
    message: str
    text: str = ""
    status: Status = "running"
    stage: Stage = "loading"
    details: AnswerDetails = field(default_factory=AnswerDetails)
    version: int = 0
    asked: float = field(default_factory=time.monotonic)
    tools: tuple[str, ...] = ()
    generation: "Generation | None" = None
    _cancel: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)


class Calls:
    """The calls of tools in a turn's details: each is there when it begins, and has its result when it ends."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def begin(self, call: "BegunCall") -> None:
        begun: PlainCall = {
            "name": call.name, "arguments": dict(call.arguments), "limit": call.limit, "is_running": True,
            "result": "", "failed": False, "seconds": 0.0,
        }  # fmt: skip
        self._show([*self._turn.details.get("calls", ()), begun], "calling")

    def end(self, call: "ToolCall") -> None:
        """A call that was refused has not begun."""
        before = list(self._turn.details.get("calls", ()))
        limit = before.pop()["limit"] if before and before[-1]["is_running"] else 0.0
        ended: PlainCall = {
            "name": call.name, "arguments": dict(call.arguments), "limit": limit, "is_running": False,
            "result": call.result, "failed": call.failed, "seconds": round(call.seconds, 3),
        }  # fmt: skip
        self._show([*before, ended], "thinking")

    def _show(self, calls: list[PlainCall], stage: Stage) -> None:
        if self._turn.status != "running":
            return
        self._turn.details["calls"] = calls
        self._turn.stage = stage
        self._turn.version += 1


class Turns:
    """All running answers of this process, at most one a conversation and `max_queue` in all."""

    def __init__(self, service: "Service", conversations: Conversations, toolboxes: "Toolboxes") -> None:
        self._service, self._toolboxes = service, toolboxes
        self._conversations = conversations
        self._running: dict[str, Turn] = {}
        self._lock = threading.Lock()
        # from the look whether a conversation is free until its answer runs, nobody else begins one
        self._beginning = threading.RLock()
        self._revisions: Counter[str] = Counter()

    def running(self, conversation: str) -> Turn | None:
        return self._running.get(conversation)

    def revision(self, name: str) -> int:
        """A number that grows when a conversation (by its id) or an owner's list (by `list:owner`) changes."""
        return self._revisions[name]

    def changed(self, owner: str, conversation: str = "") -> None:
        with self._lock:
            self._revisions[f"list:{owner}"] += 1
            if conversation:
                self._revisions[conversation] += 1

    def ask(self, owner: str, conversation: Conversation, text: str, tools: Sequence[str] = ()) -> Turn:
        """Append a message and begin its answer, for which the model may call `tools`.

        Raises `Busy`, `BadInput`, `NotFound`.
        """
        with self._beginning:
            self._check_free(conversation.id)
            _, answer = self._conversations.exchange(owner, conversation.id, text)
            return self._start(owner, conversation, answer, tools)

    def ask_again(
        self,
        owner: str,
        conversation: Conversation,
        message: str,
        knowledge: str | None = None,
        tools: Sequence[str] = (),
    ) -> Turn:
        """Answer anew in the place of an earlier answer and all after it.

        `knowledge` is the base to ask this once ("": none) in the place of the conversation's.
        """
        if knowledge is not None:
            conversation = replace(conversation, knowledge=knowledge)
        with self._beginning:
            self.cancel(conversation.id)
            self._check_free(conversation.id)
            answer = self._conversations.answer_again(owner, conversation.id, message)
            return self._start(owner, conversation, answer, tools)

    def edit(
        self, owner: str, conversation: Conversation, message: str, text: str, tools: Sequence[str] = ()
    ) -> Turn:
        """Ask `text` in the place of an earlier message and all after it."""
        with self._beginning:
            self.cancel(conversation.id)
            self._check_free(conversation.id)
            self._conversations.take_back(owner, conversation.id, message)
            return self.ask(owner, conversation, text, tools)

    def cancel(self, conversation: str) -> None:
        """Stop an answer; what it wrote so far is kept."""
        if turn := self._running.get(conversation):
            self._finish(turn, "stopped")

    def close(self) -> None:
        for conversation in list(self._running):
            self.cancel(conversation)

    def _check_free(self, conversation: str) -> None:
        with self._lock:
            if conversation in self._running:
                raise Busy("This conversation is being answered already: wait for it, or stop it.")
            if len(self._running) >= settings().max_queue:
                raise Busy("Too many questions are waiting: try again in a moment.")

    def _start(
        self, owner: str, conversation: Conversation, answer: StoredMessage, tools: Sequence[str]
    ) -> Turn:
        turn = Turn(owner, conversation, answer.id, tools=tuple(tools))
        self._running[conversation.id] = turn
        self.changed(owner, conversation.id)
        threading.Thread(target=self._run, args=(turn,), name="kun-answer", daemon=True).start()
        return turn

    def _run(self, turn: Turn) -> None:
        try:
            self._answer(turn)
        except KunError as error:
            turn.details["error"] = {"kind": type(error).__name__, "message": str(error)}
            self._finish(turn, "failed")
        except Exception:
            log.exception("An answer failed")
            turn.details["error"] = {"kind": "Exception", "message": ""}
            self._finish(turn, "failed")

    def _answer(self, turn: Turn) -> None:
        conversation = turn.conversation
        messages = prompt_messages(self._conversations.messages(turn.owner, conversation.id), turn.message)
        turn.details["wanted_model"] = conversation.model or self._service.default_model
        turn.details["knowledge"] = conversation.knowledge
        lm = self._service.language_model(conversation.model or None)
        turn.details["model"] = lm.name
        if conversation.knowledge:
            self._answer_from(turn, lm, messages)
        elif turn.tools:
            self._answer_with_tools(turn, lm, messages)
        else:
            self._answer_plainly(turn, lm, messages)

    def _answer_from(self, turn: Turn, lm: "LanguageModel", messages: list[dict[str, str]]) -> None:
        self._enter(turn, "searching")
        base = self._service.knowledge_base(turn.conversation.knowledge)
        question, history = messages[-1]["content"], messages[:-1]
        stream = base.ask_stream(question, lm, history=history, max_tokens=MAX_ANSWER_TOKENS)
        turn.details["passages"] = [plain_passage(passage) for passage in stream.passages]
        turn.details["prompt"] = lm.render(stream.prompt)
        if stream.question.strip() != question.strip():
            turn.details["question"] = stream.question
        self._write(turn, lm, stream, stream.cancel)
        if turn.status == "running":
            answer = stream.answer()
            turn.text = answer.text
            turn.details["passages"] = [plain_passage(passage) for passage in answer.passages]
            turn.details.update({"declined": answer.declined, "quoted": answer.quoted})
            if answer.computed is not None:
                turn.details["calculation"] = answer.computed.calculation
        self._finish(turn, "done")

    def _answer_plainly(self, turn: Turn, lm: "LanguageModel", messages: list[dict[str, str]]) -> None:
        from kun.generation.options import SamplingOptions

        self._enter(turn, "thinking")
        turn.generation = generation = lm.submit(messages, SamplingOptions(max_tokens=MAX_ANSWER_TOKENS))
        turn.details["prompt"] = lm.render(messages)

        def pieces() -> Iterable[str]:
            for piece in generation:
                if piece.finish_reason:
                    turn.details["finish_reason"] = piece.finish_reason
                yield piece.text

        self._write(turn, lm, pieces(), generation.cancel)
        self._finish(turn, "done")

    def _answer_with_tools(self, turn: Turn, lm: "LanguageModel", messages: list[dict[str, str]]) -> None:
        from kun.generation.options import SamplingOptions
        from kun.tools.conversation import ToolAnswer

        self._enter(turn, "starting")
        faults: list[str] = []
        toolbox = self._toolboxes.chosen(turn.tools, faults.append)
        turn.details["tool_faults"] = faults
        turn.details["prompt"] = lm.render(messages, toolbox.described())
        calls = Calls(turn)
        options = SamplingOptions(max_tokens=MAX_ANSWER_TOKENS)
        answer = ToolAnswer(lm, messages, toolbox, options, calls.begin)

        def pieces() -> Iterable[str]:
            for piece in answer:
                if isinstance(piece, str):
                    yield piece
                else:
                    calls.end(piece)
            turn.details["finish_reason"] = answer.finish_reason

        self._write(turn, lm, pieces(), answer.cancel)
        self._finish(turn, "done")

    def _write(
        self, turn: Turn, lm: "LanguageModel", pieces: Iterable[str], cancel: Callable[[], None]
    ) -> None:
        with turn._lock:
            turn._cancel = cancel
            stopped = turn.status != "running"
        if stopped:
            cancel()
            return
        self._enter(turn, "thinking")
        stored = time.monotonic()
        for piece in pieces:
            if turn.status != "running":
                return
            if not piece:
                continue
            turn.stage = "writing"
            turn.text += piece
            turn.version += 1
            if time.monotonic() - stored > _STORE_EVERY_S:
                self._conversations.write(turn.message, turn.text, "running", turn.details)
                stored = time.monotonic()
        seconds = time.monotonic() - turn.asked
        turn.details.update({"tokens": lm.count(turn.text), "seconds": round(seconds, 3)})

    @staticmethod
    def _enter(turn: Turn, stage: Stage) -> None:
        turn.stage = stage
        turn.version += 1

    def _finish(self, turn: Turn, status: Status) -> None:
        """The first call decides: an answer that was stopped stays so when its thread comes to its end."""
        with turn._lock:
            if turn.status != "running":
                return
            turn.status = status
            cancel = turn._cancel
        if status == "stopped" and cancel is not None:
            cancel()
        try:
            self._conversations.write(turn.message, turn.text, status, turn.details)
        except KunError:
            log.exception("An answer could not be stored")
        with self._lock:
            self._running.pop(turn.conversation.id, None)
        self.changed(turn.owner, turn.conversation.id)


def prompt_messages(messages: Sequence[StoredMessage], answer: str) -> list[dict[str, str]]:
    """The messages before the running `answer`, as the chat template takes it; unanswered questions are left out."""
    said: list[dict[str, str]] = []
    for message in messages:
        if message.id == answer:
            break
        if message.role == "user":
            while said and said[-1]["role"] == "user":
                said.pop()
            said.append({"role": "user", "content": message.text})
        elif message.text and said:
            said.append({"role": "assistant", "content": message.text})
    return said


def plain_passage(passage: "Passage") -> PlainPassage:
    """A passage as JSON: it is kept with the answer, so that it opens even when the document is gone."""
    reasons = passage.reasons
    return {
        "id": passage.id,
        "text": passage.text,
        "source": passage.source,
        "heading": passage.heading,
        "page": passage.page,
        "score": float(passage.score),
        "start": passage.start,
        "end": passage.end,
        "reasons": None if reasons is None else {k: float(v) for k, v in asdict(reasons).items()},
    }
