"""Answers of a model to all questions, turn by turn, kept on disk as they come, in FastChat's shape."""

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kun.atomic_files import Progress, silent
from kun.data.kept_lines import KeptLines
from kun.errors import BadInput, BadRow
from kun.evaluation.judging.questions import Question, QuestionId
from kun.models.writers import Asked, Writer, Written, short_digest


@dataclass(frozen=True)
class Answering:
    """The options of answering: the same for all models."""

    max_tokens: int = 512
    temperature: float = 0.7
    seed: int = 0


@dataclass
class Answers:
    """What one model answered: the turns of each question, and what it cost.

    `cut` counts turns that ended for their length, `failed` says why a question has fewer answers than turns.
    """

    model: str
    turns: dict[QuestionId, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[QuestionId, str] = field(default_factory=dict)
    tokens: int = 0
    prompt_tokens: int = 0
    cut: int = 0
    seconds: float = 0.0


def answer_all(
    writer: Writer,
    model: str,
    questions: Sequence[Question],
    folder: Path,
    options: Answering | None = None,
    progress: Progress = silent,
) -> Answers:
    """The answers of `writer`, who goes by the name `model`, to all turns of all questions.

    Each turn is asked with the answers before it. What `folder` keeps of the same writer, question and options is not
    asked again. A question that cannot be answered (longer than the context) is left with the turns it has.
    Raises what stops the writer; what was answered until then is kept.
    """
    options = options or Answering()
    found = Answers(model)
    digests = {one.id: short_digest(writer.identity, one.turns, options) for one in questions}
    with KeptLines(answers_file(folder, model)) as kept:
        _take(found, kept, digests)
        for turn in range(max((len(one.turns) for one in questions), default=0)):
            waiting = [
                one
                for one in questions
                if len(one.turns) > turn
                and len(found.turns.get(one.id, ())) == turn
                and one.id not in found.failed
            ]
            if waiting:
                progress(f"{model}: turn {turn + 1}", 0, len(waiting))
            asked = [_asked(one, found.turns.get(one.id, ()), options) for one in waiting]
            began = time.monotonic()
            errors: list[BadInput] = []
            for done, (place, reply) in enumerate(writer.write(asked), 1):
                question = waiting[place]
                if isinstance(reply, BadInput):
                    found.failed[question.id] = str(reply)
                    errors.append(reply)
                else:
                    now = time.monotonic()
                    record = _record(model, question, found.turns.get(question.id, ()), reply)
                    record |= {"asked": digests[question.id], "seconds": round(now - began, 3)}
                    kept.append(record)
                    _add(found, question.id, record, "")
                    began = now
                progress(f"{model}: turn {turn + 1}", done, len(waiting))
            if errors and len(errors) == len(waiting) == len(questions):
                raise errors[0]  # not one could be answered: the fault is no question's
    return found


def answers_file(folder: Path, model: str) -> Path:
    """Where the answers of a model lie."""
    name = re.sub(r"[^\w.-]+", "-", model)
    return folder / "answers" / f"{name}.jsonl"


def _asked(question: Question, before: tuple[str, ...], options: Answering) -> Asked:
    messages = [{"role": "user", "content": question.turns[0]}]
    for answer, turn in zip(before, question.turns[1:], strict=False):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    seed = zlib.crc32(f"{options.seed} {question.id} {len(before)}".encode())
    return Asked(tuple(messages), options.max_tokens, options.temperature, seed)


def _record(model: str, question: Question, before: tuple[str, ...], reply: Written) -> dict[str, object]:
    return {
        "question_id": question.id,
        "model_id": model,
        "choices": [{"index": 0, "turns": [*before, reply.text.strip()]}],
        "tokens": reply.tokens,
        "prompt_tokens": reply.prompt_tokens,
        "ended": reply.ended,
        "tstamp": time.time(),
    }


def _take(found: Answers, kept: KeptLines, digests: dict[QuestionId, str]) -> None:
    """What an earlier run kept; a later line of a question has all its turns."""
    for number, record in enumerate(kept.before, 1):
        id = record.get("question_id")
        if isinstance(id, int | str) and record.get("asked") == digests.get(id, ""):
            _add(found, id, record, f"{kept.path}:{number}")


def _add(found: Answers, id: QuestionId, record: dict[str, object], where: str) -> None:
    turns = _turns(record, where)
    found.turns[id] = turns
    tokens, prompt_tokens, seconds = (
        _number(record, name) for name in ("tokens", "prompt_tokens", "seconds")
    )
    found.tokens += int(tokens)
    found.prompt_tokens += int(prompt_tokens)
    found.seconds += seconds
    found.cut += record.get("ended") is False


def _turns(record: dict[str, object], where: str) -> tuple[str, ...]:
    """The turns of a record of ours, in which an answer may be empty. Raises `BadRow`."""
    match record.get("choices"):
        case [{"turns": list(turns)}] if all(isinstance(turn, str) for turn in turns):
            return tuple(turns)
    raise BadRow(f"{where} is no answer in FastChat's shape: remove the line.")


def _number(record: dict[str, object], name: str) -> float:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
