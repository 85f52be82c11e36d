"""Self-Instruct: rounds of asking, sorting out and keeping, until there are as many rows as are wanted.

Two styles: Self-Instruct's three steps (instructions; which are classification; inputs and outputs, of classification
with the output first), and Alpaca's one (whole tasks at once, an instance each).
"""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kun.alignment.self_instruct.filters import (
    Similar,
    fault_of_instance,
    fault_of_instruction,
    names_labels,
    without_contradictions,
)
from kun.alignment.self_instruct.prompts import (
    WORDS,
    answer_in,
    instances,
    instances_in,
    instructions,
    instructions_in,
    sorting,
    tasks_in,
    text_of,
    whole_tasks,
)
from kun.alignment.self_instruct.tasks import Instance, Task, language_of_tasks
from kun.atomic_files import Progress, silent
from kun.data.kept_lines import KeptLines
from kun.errors import BadInput, BadRow
from kun.models.writers import Asked, ChatMessages, Writer, Written

Style = Literal["self-instruct", "alpaca"]

_SHOWN_SEEDS, _SHOWN_OWN = 6, 2
"""Instructions in a prompt: people's and the model's own (Wang et al., section 2.2)."""
_SHOWN_WHOLE = 3
_SHOWN_SORTED = 8
_SHOWN_INSTANCES = 3
_SPARE = 4
"""Tasks that a round makes for each row that is still wanted, at most: some are dropped."""
_ROUND_TOKENS = {"instructions": 512, "sorting": 8, "instances": 512}


@dataclass(frozen=True)
class Making:
    """The options: how many rows, in which style, how unlike each other, and when to give up.

    `requests` are asked a round at most, each for `more` tasks. It ends without `count` rows after `patience` rounds of
    which nothing was kept.
    """

    count: int = 100
    style: Style = "self-instruct"
    requests: int = 4
    more: int = 8
    most_similar: float = 0.7
    max_tokens: int = 1536
    temperature: float = 0.8
    seed: int = 0
    patience: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.most_similar <= 1:
            raise BadInput(f"most_similar is {self.most_similar}; it must be above 0 and at most 1.")


@dataclass
class Cost:
    """What all runs on a file took and gave: requests, tokens, seconds, rows kept, and why others were dropped."""

    rounds: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    written: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    ended: str = ""

    @property
    def share(self) -> float:
        """Rows kept among those kept and dropped."""
        total = self.kept + self.dropped.total()
        return self.kept / total if total else 0.0


def make(
    writer: Writer,
    seeds: Sequence[Task],
    out: Path,
    options: Making | None = None,
    progress: Progress = silent,
) -> Cost:
    """Rows in Alpaca's format (`instruction`, `input`, `output`) that `writer` makes up, in the file `out`.

    Each row is on the disk as soon as it is kept; a file that is there already is gone on with. Next to it
    `NAME.cost.jsonl` has a line for each round. Raises what stops the writer, `BadInput` where it refuses every prompt.
    """
    options = options or Making()
    with KeptLines(out) as rows, KeptLines(out.with_name(f"{out.stem}.cost.jsonl")) as ledger:
        work = _Work(writer, list(seeds), rows, options, progress)
        for line in ledger.before:
            _count(work.cost, line)
        work.cost.kept = len(rows.before)
        empty = 0
        progress("rows", work.cost.kept, options.count)
        while not work.is_done and empty < options.patience:
            before, began = _figures(work.cost), time.monotonic()
            try:
                work.round()
            finally:  # what was paid for is counted, also where the writer stopped half way
                work.cost.rounds += 1
                work.cost.seconds += time.monotonic() - began
                ledger.append(_difference(before, _figures(work.cost)))
            empty = 0 if work.cost.kept > before["kept"] else empty + 1
            progress("rows", min(work.cost.kept, options.count), options.count)
        work.cost.ended = (
            "as many rows as were wanted" if work.is_done else f"nothing new in {options.patience} rounds"
        )
        return work.cost


class _Work:
    """What the rounds share: the pool of instructions, the file, the counts."""

    def __init__(
        self, writer: Writer, seeds: list[Task], rows: KeptLines, options: Making, progress: Progress
    ) -> None:
        self.writer, self.seeds, self.rows, self.options = writer, seeds, rows, options
        self.progress = progress
        self.language = language_of_tasks(seeds)
        self.cost = Cost()
        self.own = [_instruction(row, rows.path, number) for number, row in enumerate(rows.before, 1)]
        self.own = list(dict.fromkeys(self.own))
        self.similar = Similar([*(seed.instruction for seed in seeds), *self.own], options.most_similar)

    @property
    def is_done(self) -> bool:
        """Whether there are as many rows as are wanted."""
        return self.cost.kept >= self.options.count

    @property
    def _most(self) -> int:
        """Tasks that are worth making for the rows that are still wanted."""
        return _SPARE * (self.options.count - self.cost.kept)

    @property
    def _requests(self) -> int:
        """Requests for new tasks that are worth making."""
        return min(self.options.requests, math.ceil(self._most / self.options.more))

    def round(self) -> None:
        """Ask once for new tasks, and keep the good ones."""
        # another run goes on with other draws
        chance = random.Random(f"{self.options.seed} {self.cost.rounds}")
        if self.options.style == "alpaca":
            self._whole(chance)
        else:
            self._in_steps(chance)

    def _whole(self, chance: random.Random) -> None:
        prompts = [
            whole_tasks(
                chance.sample(self.seeds, min(_SHOWN_WHOLE, len(self.seeds))),
                self.options.more,
                self.language,
                chance,
            )
            for _ in range(self._requests)
        ]
        for place, reply in self._ask("tasks", prompts, self.options.max_tokens, chance):
            tasks = tasks_in(reply.text)
            if not tasks:
                self._drop("no task in the reply")
            if tasks and not reply.ended:
                self._drop("cut off")
                tasks = tasks[:-1]
            for task in tasks:
                if self._takes(task.instruction, text_of(prompts[place])):
                    self._keep(task.instruction, list(task.instances), None)
                if self.is_done:
                    return

    def _in_steps(self, chance: random.Random) -> None:
        found = self._new_instructions(chance)
        kinds = self._sorted(found, chance)
        for outputs_first in (True, False):
            some = [one for one in found if kinds[one] is outputs_first]
            shown = self._examples(chance, outputs_first)
            prompts = [instances(one, shown, self.language, outputs_first=outputs_first) for one in some]
            replies = self._ask(
                "instances",
                prompts,
                _ROUND_TOKENS["instances"],
                chance,
                stop=(f"\n{WORDS[self.language].instruction}",),
            )
            for place, reply in replies:
                made = instances_in(reply.text, outputs_first=outputs_first)
                if made and not reply.ended:
                    self._drop("cut off")
                    made = made[:-1]
                elif not made:
                    self._drop("no instance in the reply")
                self._keep(some[place], made, outputs_first)
                if self.is_done:
                    return

    def _new_instructions(self, chance: random.Random) -> list[str]:
        prompts = []
        for _ in range(self._requests):
            own = chance.sample(self.own, min(_SHOWN_OWN, len(self.own)))
            theirs = [seed.instruction for seed in self.seeds]
            theirs = chance.sample(theirs, min(_SHOWN_SEEDS + _SHOWN_OWN - len(own), len(theirs)))
            shown = [*theirs, *own]
            chance.shuffle(shown)
            prompts.append(instructions(shown, self.options.more, self.language, chance))
        found: list[str] = []
        for place, reply in self._ask("instructions", prompts, _ROUND_TOKENS["instructions"], chance):
            written = instructions_in(reply.text)
            if not written:
                self._drop("no task in the reply")
            if written and not reply.ended:
                self._drop("cut off")
                written = written[:-1]
            for one in written:
                if len(found) < self._most and self._takes(one, text_of(prompts[place])):
                    found.append(one)
        return found

    def _sorted(self, found: Sequence[str], chance: random.Random) -> dict[str, bool]:
        """Whether each is a classification: the model says so, and the instruction names what to choose from."""
        shown: list[Task] = []
        for kind in (True, False):
            known = [seed for seed in self.seeds if seed.is_classification is kind]
            shown += chance.sample(known, min(_SHOWN_SORTED // 2, len(known)))
        chance.shuffle(shown)
        words = WORDS[self.language]
        prompts = [sorting(one, shown, self.language) for one in found]
        kinds = dict.fromkeys(found, False)
        regex = f"{words.yes}|{words.no}" if self.writer.can_constrain else None
        most = _ROUND_TOKENS["sorting"]
        for place, reply in self._ask("sorting", prompts, most, chance, regex=regex, draw=False):
            said = answer_in(reply.text, self.language) is True
            kinds[found[place]] = said and names_labels(found[place])
        return kinds

    def _examples(self, chance: random.Random, outputs_first: bool) -> list[Task]:
        """Seeds that show the form: classification for outputs first, others for inputs first."""
        fitting = [seed for seed in self.seeds if bool(seed.is_classification) is outputs_first]
        fitting = fitting or self.seeds
        return chance.sample(fitting, min(_SHOWN_INSTANCES, len(fitting)))

    def _takes(self, instruction: str, prompt: str) -> bool:
        """Whether an instruction is new and sound; then later ones are compared with it too."""
        self.cost.written += 1
        fault = fault_of_instruction(instruction, self.language, prompt, self.similar)
        if fault is not None:
            self._drop(fault)
            return False
        self.similar.add(instruction)
        return True

    def _keep(self, instruction: str, made: list[Instance], is_classification: bool | None) -> None:
        """Keep the sound instances of an instruction, as many as are still wanted."""
        sound = []
        for one in made:
            fault = fault_of_instance(instruction, one, is_label=is_classification is True)
            if fault is not None:
                self._drop(fault)
            else:
                sound.append(one)
        sound, contradictions = without_contradictions(sound)
        if contradictions:
            self.cost.dropped["repeated or contradictory input"] += contradictions
        if not made and is_classification is None:
            self._drop("no output")
        for one in sound[: max(0, self.options.count - self.cost.kept)]:
            row: dict[str, object] = {"instruction": instruction, "input": one.input, "output": one.output}
            if is_classification is not None:
                row["is_classification"] = is_classification
            self.rows.append(row)
            self.cost.kept += 1
        if sound:
            self.own.append(instruction)

    def _drop(self, why: str) -> None:
        self.cost.dropped[why] += 1

    def _ask(
        self,
        stage: str,
        prompts: Sequence[ChatMessages],
        max_tokens: int,
        chance: random.Random,
        *,
        stop: tuple[str, ...] = (),
        regex: str | None = None,
        draw: bool = True,
    ) -> Iterator[tuple[int, Written]]:
        """Replies with the places of their prompts, as they come; what each cost is counted."""
        asked = [
            Asked(
                prompt,
                max_tokens,
                self.options.temperature if draw else 0.0,
                chance.randrange(2**31),
                stop,
                regex,
            )
            for prompt in prompts
        ]
        errors, answered = [], 0
        stage = f"round {self.cost.rounds + 1}: {stage}"
        if asked:
            self.progress(stage, 0, len(asked))
        for done, (place, reply) in enumerate(self.writer.write(asked), 1):
            self.cost.requests += 1
            self.progress(stage, done, len(asked))
            if isinstance(reply, BadInput):
                errors.append(reply)
                self._drop("prompt refused")
                continue
            answered += 1
            self.cost.prompt_tokens += reply.prompt_tokens
            self.cost.tokens += reply.tokens
            yield place, reply
        if errors and not answered:
            raise errors[0]  # such as a context that is too short for any prompt


def _instruction(row: Mapping[str, object], path: Path, number: int) -> str:
    found = row.get("instruction")
    if not isinstance(found, str) or not isinstance(row.get("output"), str):
        raise BadRow(
            f"{path}:{number} is no row of Alpaca's format: give another file for the rows that are made."
        )
    return found


_NUMBERS = ("rounds", "requests", "prompt_tokens", "tokens", "seconds", "written", "kept")


def _figures(cost: Cost) -> dict[str, float]:
    figures = {name: float(getattr(cost, name)) for name in _NUMBERS}
    return figures | {f"dropped: {why}": float(count) for why, count in cost.dropped.items()}


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, object]:
    """A round's line of the ledger."""
    numbers = {name: round(value - before.get(name, 0.0), 3) for name, value in after.items()}
    return {name: value if name == "seconds" else int(value) for name, value in numbers.items() if value}


def _count(cost: Cost, line: Mapping[str, object]) -> None:
    """Add a round of an earlier run."""
    for name, value in line.items():
        if not isinstance(value, int | float):
            continue
        if name.startswith("dropped: "):
            cost.dropped[name.removeprefix("dropped: ")] += int(value)
        elif name == "seconds":
            cost.seconds += value
        elif name in _NUMBERS:
            setattr(cost, name, int(getattr(cost, name) + value))
