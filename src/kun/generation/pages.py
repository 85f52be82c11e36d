"""Who owns which page of the cache, and which pages hold the beginning of an earlier prompt.

A full page is known by the tokens in it and by the page before it, so that a prompt which begins like an
earlier one finds its pages again. Pages that nobody uses keep their content until they are needed, the longest
unused first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

_ROOT = 0


@dataclass
class _Page:
    users: int = 0
    serial: int | None = None
    """The name of this page's content, unique for ever; None while it isn't full."""
    key: tuple[int, tuple[int, ...]] | None = None


class PagePool:
    """Pages by number, from 0 to `n_pages` - 1; each holds `page_size` tokens."""

    def __init__(self, n_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self._pages = [_Page() for _ in range(n_pages)]
        self._free = list(range(n_pages - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._by_content: dict[tuple[int, tuple[int, ...]], int] = {}
        self._serial = _ROOT

    @property
    def available(self) -> int:
        """Pages that can be handed out now, those with old content included."""
        return len(self._free) + len(self._idle)

    @property
    def in_use(self) -> int:
        return len(self._pages) - self.available

    def take(self) -> int | None:
        """An empty page for one user, or None where all are in use."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            key = self._pages[page].key
            assert key is not None
            del self._by_content[key]
        else:
            return None
        self._pages[page] = _Page(users=1)
        return page

    def release(self, pages: Sequence[int]) -> None:
        """One user fewer for each of these pages."""
        # the last page first, so that the beginning of a prompt stays longest
        for number in reversed(pages):
            page = self._pages[number]
            page.users -= 1
            if page.users == 0:
                if page.key is None:
                    self._free.append(number)
                else:
                    self._idle[number] = None

    def find(self, tokens: Sequence[int]) -> list[int]:
        """The pages that hold the beginning of `tokens`, with one user more each.

        At least the last token is left out: it has to be run to know what follows.
        """
        found: list[int] = []
        serial = _ROOT
        for start in range(0, (len(tokens) - 1) // self.page_size * self.page_size, self.page_size):
            number = self._by_content.get((serial, tuple(tokens[start : start + self.page_size])))
            if number is None:
                break
            page = self._pages[number]
            page.users += 1
            self._idle.pop(number, None)
            assert page.serial is not None
            serial = page.serial
            found.append(number)
        return found

    def remember(self, pages: list[int], tokens: Sequence[int], place: int) -> None:
        """Page number `place` of a row is full: `tokens` are all of the row's.

        Where another page has the same content already, the row goes on with that one's name.
        """
        page = self._pages[pages[place]]
        if page.key is not None:
            return
        before = self._pages[pages[place - 1]].serial if place else _ROOT
        if before is None:
            return
        size = self.page_size
        key = (before, tuple(tokens[place * size : (place + 1) * size]))
        twin = self._by_content.get(key)
        if twin is not None:
            # the same content, computed twice at the same time: only one can be found again
            page.serial = self._pages[twin].serial
            return
        self._serial += 1
        page.serial, page.key = self._serial, key
        self._by_content[key] = pages[place]
