"""SentencePiece's map of characters (`precompiled_charsmap`) as normalizers that give its very result.

The map is a double-array trie (Aoe 1989, as in darts-clone) from texts to texts; SentencePiece replaces the longest
match at each place. The step that the `tokenizers` library has for it looks up whole clusters of characters instead: it
loses the second of two accents, and joins no Korean letters. So characters are set apart before that step; those of a
match of several are put together again behind it, for Unicode's composition (NFC) to join them and nothing else.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tokenizers import Regex, normalizers

from kun.errors import DamagedFile

_MOST_NODES = 4_000_000
_LONGEST_KEY = 64
_LEAF = 1 << 31
#: unassigned characters that end a cluster of Unicode's, compose with nothing and stand in no text
_APART, _WITHIN = "\U000e0ffe", "\U000e0fff"
_CLUSTERS = (
    r"(?=[\p{M}\p{Cn}\n\u200c\u200d\uff9e\uff9f\x{1f1e6}-\x{1f1ff}\x{1f3fb}-\x{1f3ff}\x{e0020}-\x{e007f}\u1100-\u11ff\ud7b0-\ud7fb])"
    r"|(?<=[\u1100-\u115f\ua960-\ua97c\u200d\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\x{110bd}\x{110cd}\x{111c2}"
    r"\x{111c3}\x{1193f}\x{11941}\x{11a3a}\x{11a84}-\x{11a89}\x{11d46}\x{11f02}])"
)


def charsmap_steps(charsmap: bytes) -> list[normalizers.Normalizer]:
    """The steps that do what `charsmap` says. Raises `DamagedFile`."""
    within = _places_within(_joined(read_charsmap(charsmap)))
    marked = [normalizers.Replace(Regex(within), _WITHIN)] if within else []
    composed = [normalizers.Replace(_WITHIN, ""), normalizers.NFC()] if within else []
    return [
        *marked,
        normalizers.Replace(Regex(rf"(?!\A|{_WITHIN})(?<!{_WITHIN})(?:{_CLUSTERS})"), _APART),
        normalizers.Precompiled(charsmap),
        *composed,
        normalizers.Replace(_APART, ""),
    ]


def read_charsmap(charsmap: bytes) -> dict[str, str]:
    """What each text becomes. Raises `DamagedFile`."""
    try:
        (size,) = struct.unpack_from("<I", charsmap)
        units = struct.unpack_from(f"<{size // 4}I", charsmap, 4)
        texts = charsmap[4 + size :]
        return {key.decode(): texts[at : texts.index(b"\0", at)].decode() for key, at in _entries(units)}
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedFile(
            f"The tokenizer's map of characters is damaged ({error}): copy the model again."
        ) from error


def _entries(units: tuple[int, ...]) -> Iterator[tuple[bytes, int]]:
    """Each key of the trie with the place of its value."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for index, unit in enumerate(units):
        if not unit & _LEAF and unit & 0xFF:
            children[index ^ unit & 0xFF].append(index)
    waiting, nodes = [(_offset(units[0]), b"")], 0
    while waiting:
        place, key = waiting.pop()
        for index in children[place]:
            nodes += 1
            if nodes > _MOST_NODES or len(key) >= _LONGEST_KEY:
                raise ValueError("its trie has no end")
            unit = units[index]
            longer, following = key + bytes([unit & 0xFF]), index ^ _offset(unit)
            if unit >> 8 & 1:
                yield longer, units[following] & ~_LEAF
            waiting.append((following, longer))


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def _joined(mapping: dict[str, str]) -> set[str]:
    """The keys of several characters that composition joins after each was mapped alone."""
    compose = normalizers.NFC().normalize_str
    several = [key for key in mapping if len(key) > 1]
    alone = ["".join(mapping.get(letter, letter) for letter in key) for key in several]
    return {key for key, letters in zip(several, alone, strict=True) if compose(letters) == mapping[key]}


def _places_within(keys: set[str]) -> str:
    """A pattern for the places within a match of `keys`, between any two characters of it."""
    firsts: defaultdict[tuple[str, str], set[str]] = defaultdict(
        set
    )  # by what stands before and behind the place
    for key in keys:
        for cut in range(1, len(key)):
            if cut == len(key) - 1 or key[: cut + 1] not in keys:
                firsts[key[1:cut], key[cut:]].add(key[0])
    middles: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)
    for (middle, rest), letters in firsts.items():
        middles[_one_of(letters), len(middle), rest].add(middle)
    before: defaultdict[str, set[str]] = defaultdict(set)
    for (first, _, rest), texts in middles.items():
        before[rest].add(f"(?<={first}{_one_of(texts)})")
    rests: defaultdict[str, set[str]] = defaultdict(set)
    for rest, patterns in before.items():
        rests["|".join(sorted(patterns))].add(rest)
    if not rests:
        return ""
    either = "|".join(f"(?={_one_of(texts)})(?:{patterns})" for patterns, texts in sorted(rests.items()))
    return f"(?={_one_of({text[0] for texts in rests.values() for text in texts})})(?:{either})"


def _one_of(texts: Iterable[str]) -> str:
    """A pattern for one of these texts."""
    letters = sorted(ord(text) for text in texts if len(text) == 1)
    longer = ["".join(f"\\x{{{ord(letter):x}}}" for letter in text) for text in texts if len(text) > 1]
    ranges: list[list[int]] = []
    for letter in letters:
        if ranges and letter == ranges[-1][1] + 1:
            ranges[-1][1] = letter
        else:
            ranges.append([letter, letter])
    inside = "".join(f"\\x{{{low:x}}}" + (f"-\\x{{{high:x}}}" if high > low else "") for low, high in ranges)
    either = ([f"[{inside}]"] if inside else []) + sorted(longer)
    return f"(?:{'|'.join(either)})" if len(either) > 1 else "".join(either)
