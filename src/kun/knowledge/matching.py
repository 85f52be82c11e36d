"""Names of documents, and patterns that stand for several."""

import fnmatch
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from kun.errors import NotFound


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that are, or match, one of the patterns; every pattern must match something."""
    names = list(names)
    chosen: list[str] = []
    for pattern in patterns:
        matched = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not matched:
            near = get_close_matches(pattern, names, n=3, cutoff=0.5)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise NotFound(f"No document is named {pattern[:200]}, or matches it.{hint}")
        chosen += matched
    return list(dict.fromkeys(chosen))
