"""A ballot: what a person has said so far of the answers on the screen. Keys, drags and buttons all act on it."""

from dataclasses import dataclass, field
from typing import Literal

from kun.alignment.feedback.votes import FLAGS, Flag, Item, Verdict, Vote
from kun.errors import BadInput

Action = Literal["save", "tie", "bad", "skip", "undo", "note", "correct", "changed"]
"""What a key asks the page to do; `changed`: only to show the ballot anew."""

KEYS: dict[str, Action] = {
    "Enter": "save",
    "t": "tie",
    "x": "bad",
    "s": "skip",
    "u": "undo",
    "n": "note",
    "e": "correct",
}
FLAG_KEYS: dict[str, Flag] = {"h": "harmful", "v": "untrue", "o": "off-topic"}


@dataclass
class Ballot:
    """Answers by their position on the screen, from 0, each in a place from 0, the best, or in none.

    They are in the order in which they were placed. Those in one place are as good as each other; a place without
    answers counts for nothing.
    """

    item: Item
    rater: str
    places: dict[int, int] = field(default_factory=dict)
    flags: dict[int, list[Flag]] = field(default_factory=dict)
    note: str = ""
    correction: str = ""
    current: int = 0
    """The position that flags are for."""
    joins: bool = False
    """The next answer goes into the last one's place."""

    @classmethod
    def of(cls, item: Item, rater: str, vote: Vote | None = None) -> "Ballot":
        """An empty ballot, or that of a vote which was taken back."""
        if vote is None:
            return cls(item, rater)
        position = {place: number for number, place in enumerate(item.shown)}
        placed = sorted((rank, position[place]) for place, rank in enumerate(vote.ranks))
        return cls(
            item,
            rater,
            {at: rank for rank, at in placed},
            {position[place]: list(flags) for place, flags in vote.flags.items()},
            vote.note,
            vote.correction,
        )

    @property
    def size(self) -> int:
        return len(self.item.answers)

    @property
    def is_whole(self) -> bool:
        return len(self.places) == self.size

    def key(self, key: str) -> Action | None:
        """Do what a key means; None for one that means nothing. Digits, A and B name answers."""
        position = self._named(key)
        if position is not None:
            return self.choose(position)
        name = key if len(key) > 1 else key.lower()
        if name in KEYS:
            return KEYS[name]
        if name in FLAG_KEYS:
            self.flag(self.current, FLAG_KEYS[name])
        elif name == "=":
            self.joins = bool(self.places)
        elif name == "Backspace":
            self.take_back()
        elif name in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
            step = 1 if name in ("ArrowRight", "ArrowDown") else -1
            self.current = (self.current + step) % self.size
        else:
            return None
        return "changed"

    def _named(self, key: str) -> int | None:
        if len(key) == 1 and key in "123456789":
            position = int(key) - 1
        elif self.size == 2 and key.lower() in ("a", "b"):
            position = "ab".index(key.lower())
        else:
            return None
        return position if position < self.size else None

    def choose(self, position: int) -> Action:
        """The next best answer goes to the first free place; the last one saves, and so does the better one of two."""
        if self.size == 2:
            self.places = {position: 0, 1 - position: 1}
            return "save"
        if position in self.places:
            del self.places[position]
            self.joins = False
            return "changed"
        taken = list(self.places.values())
        free = next(place for place in range(self.size) if place not in taken)
        self.places[position] = taken[-1] if self.joins else free
        self.joins, self.current = False, position
        return "save" if self.is_whole else "changed"

    def put(self, position: int, place: int) -> None:
        """An answer that was dragged to a place. Raises `BadInput` for what is not on the screen."""
        if not (0 <= position < self.size and 0 <= place < self.size):
            raise BadInput(
                f"There is no answer {position + 1} or no place {place + 1}: there are {self.size}."
            )
        self.places.pop(position, None)
        self.places[position], self.current = place, position

    def take_back(self) -> None:
        """The answer that was placed last is in no place."""
        if self.places:
            self.places.popitem()
        self.joins = False

    def flag(self, position: int, flag: Flag) -> None:
        """Set a flag on an answer, or take it away."""
        flags = self.flags.setdefault(position, [])
        if flag in flags:
            flags.remove(flag)
        else:
            flags.append(flag)

    def vote(self, action: Action = "save") -> Vote:
        """The vote that this ballot is. Raises `BadInput` where answers have no place; a last one goes last."""
        item, verdict = self.item, self._verdict(action)
        ranks = self._ranks(action) if verdict == "ranked" else ()
        flags = {
            item.shown[position]: tuple(flag for flag in FLAGS if flag in flags)
            for position, flags in self.flags.items()
            if flags
        }
        return Vote(
            item.id, self.rater, verdict, ranks, item.shown, flags, self.note.strip(), self.correction.strip()
        )

    def _verdict(self, action: Action) -> Verdict:
        if action == "skip":
            return "skipped"
        if action == "bad" or (action == "save" and not self.places and self.correction.strip()):
            return "bad"  # an own answer alone is better than all of them
        return "ranked"

    def _ranks(self, action: Action) -> tuple[int, ...]:
        places = dict.fromkeys(range(self.size), 0) if action == "tie" else dict(self.places)
        missing = [position for position in range(self.size) if position not in places]
        if len(missing) == 1:
            places[missing[0]] = self.size
        elif missing:
            raise BadInput(f"{len(missing)} answers have no place yet: place all but one, or skip.")
        used = sorted(set(places.values()))
        by_place = {self.item.shown[position]: used.index(place) for position, place in places.items()}
        return tuple(by_place[place] for place in range(self.size))
