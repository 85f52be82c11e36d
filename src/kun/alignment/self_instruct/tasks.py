"""Seed tasks: a few that people wrote, from which a model makes up others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kun.data.records import Record, read_records
from kun.data.rows import BadRows
from kun.errors import BadInput, BadRow, NotFound
from kun.text.language import is_chinese

FEWEST_SEEDS = 4


@dataclass(frozen=True)
class Instance:
    """An input, "" where the task needs none, and the output that belongs to it."""

    input: str
    output: str


@dataclass(frozen=True)
class Task:
    """An instruction with instances; whether its outputs are a few labels is None where nobody said so."""

    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool | None = None


def read_seeds(path: Path) -> list[Task]:
    """Seed tasks of a file, in Self-Instruct's shape (`instruction`, `instances`, `is_classification`) or Alpaca's.

    Raises `BadRow` with file and line, `BadInput` for fewer than 4 tasks, `NotFound`.
    """
    if not path.is_file():
        raise NotFound(
            f"{path} does not exist: give a file of seed tasks, such as examples/self-instruct/en.jsonl."
        )
    found: dict[str, Task] = {}
    for record in read_records(path, BadRows()):
        task = _task(record)
        if task.instruction in found:
            raise BadRow(
                f"{record.where} repeats an instruction: put its instances together, or remove the line."
            )
        found[task.instruction] = task
    if len(found) < FEWEST_SEEDS:
        raise BadInput(
            f"{path} holds {len(found)} tasks; {FEWEST_SEEDS} are the fewest from which others are made."
        )
    return list(found.values())


def language_of_tasks(tasks: Sequence[Task]) -> str:
    """ "zh" where most instructions are Chinese, else "en"."""
    chinese = sum(is_chinese(task.instruction) for task in tasks)
    return "zh" if 2 * chinese > len(tasks) else "en"


def _task(record: Record) -> Task:
    names = record.value
    if not isinstance(names, dict):
        raise BadRow(
            f"{record.where} holds no task: each line is an object with an instruction and instances."
        )
    instruction = _text(record, "instruction", names.get("instruction")).strip()
    told = names.get("is_classification")
    if told is not None and not isinstance(told, bool):
        raise BadRow(f"{record.where}: 'is_classification' is {told!r:.40}: make it true or false.")
    given = names.get("instances", [names])
    if not isinstance(given, list) or not given:
        raise BadRow(
            f"{record.where}: 'instances' is no list of objects with input and output: fix the line."
        )
    return Task(instruction, tuple(_instance(record, one) for one in given), told)


def _instance(record: Record, value: object) -> Instance:
    if not isinstance(value, dict):
        raise BadRow(f"{record.where}: an instance is no object with input and output: fix the line.")
    given = value.get("input") or ""
    if not isinstance(given, str):
        raise BadRow(f"{record.where}: 'input' is no text: fix the line.")
    return Instance(given.strip(), _text(record, "output", value.get("output")).strip())


def _text(record: Record, name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{record.where}: {name!r} is no text or empty: fix or remove the line.")
    return value
