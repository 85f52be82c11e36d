"""Encoded data inside text: base64, hexadecimal and uuencoded blocks, which nobody can search or read."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

from kun.errors import HoldsNoText
from kun.knowledge.read.extracted import Extracted

_CANDIDATE = re.compile(r"[A-Za-z0-9+/=_-]{56}|^M[!-`]{60}$", re.MULTILINE)
_ADDRESS = re.compile(r"data:[\w/+.;=-]{0,100}base64,[A-Za-z0-9+/=\s]{64,}+")
# without a space for so long is no digest, no key and no path
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{400,}+")
_LINES = re.compile(
    r"(?:^[ \t>]*+[A-Za-z0-9+/_-]{56,100}+={0,2}[ \t]*\n){4,}+(?:[ \t>]*+[A-Za-z0-9+/_=-]{1,100}$)?",
    re.MULTILINE,
)
_UUENCODED = re.compile(r"(?:^M[!-`]{60}\n){4,}+(?:^[!-`]{1,61}$\n?){0,3}", re.MULTILINE)


def without_junk(extracted: Extracted, name: str) -> Extracted:
    """The same without encoded data, which is named in `skipped`. Raises `HoldsNoText` where nothing else is left."""
    text = extracted.text
    if not _CANDIDATE.search(text):
        return extracted
    spans = list(_spans(text))
    if not spans:
        return extracted
    kept, at = [], 0
    ends, removed = [], [0]
    for start, end in spans:
        kept.append(text[at:start])
        at = end
        ends.append(end)
        removed.append(removed[-1] + end - start)
    rest = "".join([*kept, text[at:]])
    if sum(map(str.isalnum, rest)) < 4:
        raise HoldsNoText(f"{name} holds nothing but encoded data (base64): decode it first.", "encoded data")
    pages = [page - removed[bisect_left(ends, page)] for page in extracted.pages]
    skipped = extracted.skipped | {"base64": f"encoded data ({removed[-1]:,} characters)"}
    return replace(extracted, text=rest, pages=pages, skipped=skipped)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """The stretches of encoded data, in order, none in another."""
    found = [
        match.span()
        for pattern in (_ADDRESS, _LINES, _RUN, _UUENCODED)
        for match in pattern.finditer(text)
        if pattern in {_ADDRESS, _UUENCODED} or _is_encoded(match.group())
    ]
    last = 0
    for start, end in sorted(found):
        if end > last:
            yield max(start, last), end
            last = end


def _is_encoded(run: str) -> bool:
    """True if a long run mixes letters and figures as no words and no paths do."""
    sample = run[:4096]
    length = max(1, sum(not letter.isspace() for letter in sample))
    digits = sum(map(str.isdigit, sample)) / length
    upper, lower = sum(map(str.isupper, sample)) / length, sum(map(str.islower, sample)) / length
    is_hex = digits > 0.2 and all(letter in "0123456789abcdefABCDEF \n\t>" for letter in sample)
    # base64 of text has few figures, of pictures a sixth
    parted = sample.count("/") + sample.count("_") + sample.count("-") > 0.1 * length
    return is_hex or (digits > 0.02 and upper > 0.1 and lower > 0.1 and not parted)
