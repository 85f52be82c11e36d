"""Stop strings in a stream of text."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the first stop string; holds back what may be the beginning of one.

    The first is the one that ends first (the longer one of those that end together), so the answer does not
    depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.after = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is certain, and whether a stop string came; then `after` is what followed it."""
        if not text:
            return "", False
        seen = self._held + text
        found = [(seen.find(stop) + len(stop), -len(stop)) for stop in self._stops if stop in seen]
        if found:
            end, length = min(found)
            self._held, self.after = "", seen[end:]
            return seen[: end + length], True
        keep = max(_beginning(seen, stop) for stop in self._stops)
        self._held = seen[len(seen) - keep :]
        return seen[: len(seen) - keep], False

    def finish(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
