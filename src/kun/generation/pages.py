"""Who owns which page of the cache, and which pages hold a beginning that may come again.

Pages are named by the chain of the tokens before and in them, so two prompts that begin alike find the same
pages (Kwon et al., arXiv:2309.06180; Zheng et al., "SGLang", arXiv:2312.07104). A page that nobody uses
keeps its content until its place is needed; the least recently used goes first.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

ROOT = b""
"""What stands before the first page of a row: nothing, or what else its content depends on."""
_MOST_COMPARED = 32


def chain_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a page: what stands in it, and all that stands before it."""
    return blake2b(parent + array("q", tokens).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class Match:
    """Pages that hold a prompt's beginning (now referenced), and a page whose first `shared` tokens go on."""

    pages: list[int]
    keys: list[bytes]
    source: int | None = None
    shared: int = 0


@dataclass(frozen=True)
class _Content:
    key: bytes
    parent: bytes
    tokens: tuple[int, ...]


class PagePool:
    """References to the pages 0 … n_pages - 1; not thread-safe, it belongs to the engine's thread."""

    def __init__(self, n_pages: int, page_size: int) -> None:
        self.n_pages, self.page_size = n_pages, page_size
        self._free = list(range(n_pages - 1, -1, -1))
        self._references = [0] * n_pages
        self._content: dict[int, _Content] = {}
        self._by_key: dict[bytes, int] = {}
        self._children: dict[bytes, dict[int, None]] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._touched: set[int] = set()

    @property
    def available(self) -> int:
        """Pages that can be had at once, those with old content included."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        return self.n_pages - self.available

    def take(self, count: int) -> list[int]:
        """`count` pages to write to; the caller has looked at `available`."""
        return [self._take_one() for _ in range(count)]

    def _take_one(self) -> int:
        if self._free:
            page = self._free.pop()
        else:
            page, _ = self._idle.popitem(last=False)
            self._forget(page)
        self._references[page] = 1
        self._touched.add(page)
        return page

    def release(self, pages: Sequence[int]) -> None:
        """Give up one reference to each. The last page of a row is the first to be used anew."""
        for page in reversed(pages):
            self._references[page] -= 1
            if self._references[page]:
                continue
            if page in self._content:
                self._idle[page] = None
            else:
                self._free.append(page)

    def hold(self, pages: Sequence[int]) -> None:
        """One more reference to each."""
        for page in pages:
            self._references[page] += 1
            self._idle.pop(page, None)

    def shared(self, page: int) -> bool:
        """Whether another row stands in the page too, so that nobody may write to it."""
        return self._references[page] > 1

    def register(self, page: int, parent: bytes, tokens: Sequence[int]) -> bytes:
        """Make known that `page` begins with `tokens`, after those that `parent` stands for; its key."""
        key = chain_key(parent, tokens)
        if key in self._by_key:
            return key
        self._forget(page)
        self._content[page] = _Content(key, parent, tuple(tokens))
        self._by_key[key] = page
        self._children.setdefault(parent, {})[page] = None
        return key

    def _forget(self, page: int) -> None:
        content = self._content.pop(page, None)
        if content is None:
            return
        del self._by_key[content.key]
        siblings = self._children[content.parent]
        del siblings[page]
        if not siblings:
            del self._children[content.parent]

    def forget_all(self) -> None:
        """No content can be trusted any more."""
        for page in list(self._content):
            self._forget(page)
        self._free.extend(self._idle)
        self._idle.clear()

    def tidy(self, kept: int) -> list[int]:
        """Keep the content of at most `kept` pages that nobody uses; those written to that now have none, in order."""
        while len(self._idle) > kept:
            page, _ = self._idle.popitem(last=False)
            self._forget(page)
            self._free.append(page)
        written = sorted(self._touched.intersection(self._free))
        self._touched.difference_update(written)
        return written

    def find(self, keys: Sequence[bytes]) -> int:
        """How many of these whole pages, from the first on, are here."""
        for depth, key in enumerate(keys):
            if key not in self._by_key:
                return depth
        return len(keys)

    def match(self, tokens: Sequence[int], keys: Sequence[bytes], root: bytes = ROOT) -> Match:
        """The longest known beginning of `tokens`, whose whole pages are `keys`; one token is left to run.

        Only pages that follow `root` are known to hold it.
        """
        whole = min(self.find(keys), (len(tokens) - 1) // self.page_size)
        pages = [self._by_key[key] for key in keys[:whole]]
        self.hold(pages)
        parent = keys[whole - 1] if whole else root
        rest = tokens[whole * self.page_size : min((whole + 1) * self.page_size, len(tokens) - 1)]
        source, shared = self._longest(parent, rest)
        return Match(pages, list(keys[:whole]), source, shared)

    def _longest(self, parent: bytes, rest: Sequence[int]) -> tuple[int | None, int]:
        best: tuple[int | None, int] = (None, 0)
        for page in islice(reversed(self._children.get(parent, {})), _MOST_COMPARED):
            shared = shared_beginning(self._content[page].tokens, rest)
            if shared > best[1]:
                best = (page, shared)
        return best


def shared_beginning(left: Sequence[int], right: Sequence[int]) -> int:
    """With how many equal tokens both begin."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
