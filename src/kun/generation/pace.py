"""The part of the prompts that a step reads next to answers being written, by the time that steps take here."""

from collections import deque
from statistics import median_low

GAP_SECONDS = 0.1
"""The step that is aimed for while somebody writes: 100 ms between two words still reads as flowing."""

LEAST_SHARE, SHARE_OF_EACH = 2.0, 0.125
"""Reading takes at least so many times what writing alone takes, however slow that is; each answer adds to it.

So a prompt is read at two thirds of its speed alone, next to eight answers at three quarters; what the parts of a step
share comes on top. Figures: benchmarks/interleaving.py.
"""

ALONE_SECONDS = 0.5
"""The longest step of reading while nobody writes: whoever comes meanwhile waits for its end."""

_LEAST_ALONE = 64
"""Tokens of such a step at least: the weights are read once a step, so that small steps on a busy machine take as long
as larger ones, and a budget by the time of each token would fall to one token a step and stay there."""

_UNKNOWN = 32
"""Tokens of a step of which nothing is known yet."""
_FEWEST = 4
"""Fewer tokens at once are not worth the keys and values that each part of a prompt reads again."""
_ASKED_EVERY = 16
"""Steps of both kinds after which one only writes, to learn anew what that takes."""
_GROWTH = 1.5
"""A part is at most so many times the one before it: some quick steps, or a short prompt that ends while a long one is
read on, tell little of what many tokens take, and the gap that follows is what people feel."""
_KNOWN, _MEASURED = 2, 3
"""Steps of a kind that are needed, and that are remembered: of these the median counts, not what interrupts one."""


class Pace:
    """A budget of tokens for each step's reading, at most `most`; `took` records how long the last step was.

    What a token takes to be read grows with all that precedes it, so that only the last steps are the measure.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._writing: deque[float] = deque(maxlen=_MEASURED)
        self._reading: deque[float] = deque(maxlen=_MEASURED)
        self._writers = self._since = 0
        self._part = 0
        """Tokens that were read by the last step of reading next to writers; 0 while nobody writes."""

    def tokens(self, writers: int) -> int:
        """Tokens of prompts that the next step may read next to `writers` answers; 0 for a step that only writes."""
        if not writers:
            self._part = 0
            return max(self._within(ALONE_SECONDS), min(_LEAST_ALONE, self.most))
        changed = not self._writers // 2 <= writers <= 2 * self._writers
        if changed or len(self._writing) < _KNOWN or self._since >= _ASKED_EVERY:
            return 0
        writing = median_low(self._writing)
        most = max(_UNKNOWN, int(_GROWTH * self._part))
        return min(most, self._within(max(GAP_SECONDS - writing, share(writers) * writing)))

    def _within(self, seconds: float) -> int:
        if not self._reading:
            return min(_UNKNOWN, self.most)
        return min(max(_FEWEST, int(seconds / median_low(self._reading))), self.most)

    def took(self, seconds: float, writers: int, read: int) -> None:
        """A step took so long, in which `writers` answers went on and `read` tokens of prompts were read."""
        if read:
            if writers and not self._part:
                self._reading.clear()  # what larger steps took alone, perhaps of another prompt
            writing = median_low(self._writing) if writers and self._writing else 0.0
            # never nothing: the part of reading in a step that seems to be all writing
            self._reading.append(max(seconds - writing, 0.1 * seconds) / read)
            self._since += bool(writers)
            self._part = read if writers else 0
            return
        if not self._writers // 2 <= writers <= 2 * self._writers:
            self._writing.clear()
        self._writing.append(seconds)
        self._writers, self._since = writers, 0


class NoPace:
    """All that a step holds, whoever waits: what a step reads hangs on the requests alone, and not on the clock."""

    def __init__(self, most: int) -> None:
        self.most = most

    def tokens(self, writers: int) -> int:
        """Tokens of prompts that the next step may read."""
        return self.most

    def took(self, seconds: float, writers: int, read: int) -> None:
        """How long a step took changes nothing."""


def share(writers: int) -> float:
    """The least that a step reads next to so many answers, in multiples of the time that writing takes."""
    return LEAST_SHARE + SHARE_OF_EACH * writers
