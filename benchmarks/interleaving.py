"""A long prompt next to chats that go on: the gaps between their tokens, and the speed at which it is read.

Figures are of `lm.submit` with int4 weights. The engine reads prompts in parts whose size follows the time of the
steps (generation/pace.py), so that gaps hardly depend on the machine; the speed of reading does.
"""

import statistics
import time
from collections.abc import Iterable
from itertools import pairwise
from threading import Thread

import kun
from benchmarks.speed import unread
from benchmarks.table import Options, Row, main, skipped
from kun.errors import KunError
from kun.generation.options import SamplingOptions
from kun.generation.results import Generation
from kun.models.language_model import LanguageModel
from kun.settings import DEFAULT_MODEL

MODELS = ("smollm2-135m-instruct", DEFAULT_MODEL, "qwen2.5-coder-1.5b-instruct")
LONG, LONGER, CHATS, READ = 9_000, 30_000, 8, 2_000
LONGEST_SECONDS = 300.0
"""A prompt that takes longer is given up: the gaps until then are what counts."""


def measure(options: Options) -> Iterable[Row]:
    for name in dict.fromkeys(MODELS[:2] if options.quick else MODELS):
        try:
            lm = kun.load(name, quantize="int4")
        except KunError as error:
            yield skipped(f"interleaving: {name}", str(error))
            continue
        with lm:
            lm.generate("Once upon a time", max_tokens=4)
            yield from _gaps(name, lm, 90.0 if options.quick else LONGEST_SECONDS)
            yield _speed(name, lm, 1 if options.quick else 3)


def _gaps(name: str, lm: LanguageModel, patience: float) -> Iterable[Row]:
    """Gaps between the tokens of one chat while a prompt is read, as long as the context allows."""
    for tokens, at_least, aim in ((LONG, 1.5, 0.5), (LONGER, 0.3, 0.12)):
        length = min(tokens, lm.context_length - 300)
        gaps, read = gaps_next_to(lm, length, patience)
        longest = tokens == LONG
        figure = max(gaps) if longest else statistics.quantiles(gaps, n=20)[-1]
        yield Row(
            f"{'longest' if longest else 'p95'} gap of a chat next to a prompt of {length:,} tokens: {name}",
            f"{figure * 1000:.0f} ms",
            f"{at_least * 1000:.0f} ms",
            f"{aim * 1000:.0f} ms",
            holds=figure <= at_least,
            note=f"median {statistics.median(gaps) * 1000:.0f} ms, {len(gaps)} gaps, {read:.0%} of the prompt read",
        )


def gaps_next_to(lm: LanguageModel, length: int, patience: float) -> tuple[list[float], float]:
    """Gaps in seconds, and which part of the prompt was read when the chat or the patience ended."""
    chat = lm.submit("Once upon a time", _writing(4000))
    times: list[float] = []
    watch = Thread(target=_note_times, args=(chat, times))
    watch.start()
    while not times:
        time.sleep(0.005)
    began = time.perf_counter()
    prompt = lm.submit(unread(lm, length), _writing(1))
    while not prompt.done and not chat.done and time.perf_counter() - began < patience:
        time.sleep(0.02)
    ended = time.perf_counter()
    part = 1.0 if prompt.done else prompt.progress.read / length
    for generation in (prompt, chat):
        generation.cancel()
    watch.join()
    return [later - earlier for earlier, later in pairwise(times) if later > began and earlier < ended], part


def _note_times(chat: Generation, times: list[float]) -> None:
    for piece in chat:
        times += [time.perf_counter()] * len(piece.token_ids)


def _speed(name: str, lm: LanguageModel, repeats: int) -> Row:
    """Each pair is of the same minute; the median of the ratios counts."""
    ratios, speeds = [], []
    for _ in range(repeats):
        alone = reading(lm)
        chats = [lm.submit(f"{number}. Once upon a time", _writing(4000)) for number in range(CHATS)]
        for chat in chats:
            next(iter(chat))
        next_to = reading(lm)
        for chat in chats:
            chat.cancel()
        ratios.append(next_to / alone)
        speeds.append((next_to, alone))
    ratio = statistics.median(ratios)
    both = " and ".join(f"{statistics.median(each):,.0f}" for each in zip(*speeds, strict=True))
    what = f"tokens/s of a prompt of {READ:,} while {CHATS} chats go on, against alone: {name}"
    return Row(what, f"{ratio:.2f}", "0.6", "0.8", holds=ratio >= 0.6, note=f"{both} tokens/s")


def reading(lm: LanguageModel) -> float:
    """Tokens a second of a prompt until its first token is written."""
    start = time.perf_counter()
    lm.submit(unread(lm, READ), _writing(1)).result()
    return READ / (time.perf_counter() - start)


def _writing(tokens: int) -> SamplingOptions:
    return SamplingOptions(max_tokens=tokens, temperature=0, ignore_eos=True)


if __name__ == "__main__":
    main(measure, __doc__)
