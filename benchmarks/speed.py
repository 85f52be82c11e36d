"""How fast text is written and read, beside llama.cpp on the same GGUF file, in the same minutes, on as many threads.

Kun's figures are of `lm.submit` with int4 weights: the engine as a user gets it, detokenizing included.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import kun
from benchmarks.table import Options, Row, main, skipped
from kun.generation.options import SamplingOptions

PEER = Path(__file__).with_name("llama_peer.py")
MODELS = {"SmolLM2-135M": "smollm2.gguf", "Qwen2.5-Coder-0.5B": "qwen.gguf"}
PROMPT = "Once upon a time, in a village by the sea, there lived a"
WRITTEN, READ, AT_ONCE = 96, 400, 16
_fresh = count()


def measure(options: Options) -> Iterable[Row]:
    for name, file in MODELS.items():
        path = options.data / file if options.data else None
        if path is None or not path.is_file():
            yield skipped(f"speed: {name}", f"needs --data with {file}")
            continue
        with kun.load(str(path), quantize="int4") as lm:
            lm.generate(PROMPT, max_tokens=4)
            if options.peers is None:
                yield from _alone(name, lm, options)
            else:
                with _peer(options.peers, path) as peer:
                    yield from _beside(name, lm, peer, options)
            yield _sampled(name, lm)


def _alone(name: str, lm: Any, options: Options) -> Iterable[Row]:
    for what, ours in (("decode", decode), ("prefill", _prefill), ("at once", at_once)):
        yield Row(
            f"{what}: {name}", _rate([ours(lm) for _ in range(repeats(options))]), note="without the peer"
        )


def _beside(name: str, lm: Any, peer: "Peer", options: Options) -> Iterable[Row]:
    writing, reading, together = ([], []), ([], []), ([], [])
    ids = lm.encode(PROMPT)
    for _ in range(repeats(options)):
        written = WRITTEN / peer.seconds(do="decode", ids=ids, count=WRITTEN)
        for pair, ours, theirs in (
            (writing, decode(lm), written),
            (reading, _prefill(lm), READ / peer.seconds(do="prefill", ids=unread(lm, READ))),
            (together, at_once(lm), written),
        ):
            pair[0].append(ours)
            pair[1].append(theirs)
    yield _compared(f"decode, batch 1, int4: {name}", writing, 1.0, 1.5)
    yield _compared(f"prefill of {READ} tokens, int4: {name}", reading, 4, 8)
    yield _compared(f"{AT_ONCE} requests at once, int4, against batch 1: {name}", together, 4, 8)


def repeats(options: Options) -> int:
    return 3 if options.quick else 7


def decode(lm: Any) -> float:
    """Tokens a second of one answer, from its first token on."""
    generation = lm.submit(PROMPT, SamplingOptions(max_tokens=WRITTEN + 1, temperature=0, ignore_eos=True))
    start, written = 0.0, 0
    for piece in generation:
        if start:
            written += len(piece.token_ids)
        else:
            start = time.perf_counter()
    return written / (time.perf_counter() - start)


def _prefill(lm: Any) -> float:
    """Tokens a second of a prompt that nothing is known of, until the first token is written."""
    ids = unread(lm, READ)
    start = time.perf_counter()
    lm.generate(ids, max_tokens=1, temperature=0)
    return READ / (time.perf_counter() - start)


def at_once(lm: Any, **sampling: Any) -> float:
    """Tokens a second of many answers together, reading their prompts included."""
    options = SamplingOptions(max_tokens=WRITTEN, ignore_eos=True, **(sampling or {"temperature": 0}))
    first = next(_fresh)
    start = time.perf_counter()
    answers = [lm.submit(f"{first * AT_ONCE + i}. {PROMPT}", options) for i in range(AT_ONCE)]
    written = sum(len(answer.result()[0].token_ids) for answer in answers)
    return written / (time.perf_counter() - start)


def _sampled(name: str, lm: Any) -> Row:
    """What drawing tokens costs: the same work with and without it, in turns."""
    sampled = {"temperature": 0.8, "top_p": 0.95, "seed": 0}
    pairs = [(at_once(lm), at_once(lm, **sampled)) for _ in range(3)]
    greedy, drawn = (statistics.median(each) for each in zip(*pairs, strict=True))
    milliseconds = (AT_ONCE / drawn - AT_ONCE / greedy) * 1000
    note = f"{milliseconds:.1f} ms more for a step of {AT_ONCE} rows than choosing the likeliest"
    return Row(f"{AT_ONCE} at once, temperature 0.8, top-p 0.95: {name}", _rate([drawn]), note=note)


def unread(lm: Any, length: int) -> list[int]:
    """A prompt that no cache knows."""
    first = next(_fresh)
    return [100 + (first * 7919 + place * 31) % (lm.config.vocab_size - 200) for place in range(length)]


def _rate(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} tokens/s"


def _compared(what: str, pair: tuple[list[float], list[float]], at_least: float, aim: float) -> Row:
    """Each of ours is set against the peer's of the same minute; what counts is the median of the ratios."""
    ratios = sorted(ours / theirs for ours, theirs in zip(*pair, strict=True))
    ratio = statistics.median(ratios)
    return Row(
        what,
        f"{_rate(pair[0])}, {ratio:.2f}×",
        f"{at_least:g}×",
        f"{aim:g}×",
        peer=f"llama.cpp {_rate(pair[1])}",
        holds=ratio >= at_least,
        note=f"{ratios[0]:.2f}× to {ratios[-1]:.2f}× in {len(ratios)} turns, {_threads()} threads each",
    )


def _threads() -> int:
    from kun.settings import settings

    return settings().threads or os.cpu_count() or 1


@dataclass
class Peer:
    """The other process; it works only while it is asked."""

    asks: IO[str]
    answers: IO[str]

    def seconds(self, **request: Any) -> float:
        self.asks.write(json.dumps(request) + "\n")
        self.asks.flush()
        return float(self.answers.readline())


@contextmanager
def _peer(python: Path, gguf: Path) -> Iterator[Peer]:
    command = [str(python), str(PEER), str(gguf), str(_threads())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"llama.cpp did not start with {gguf}")
        yield Peer(process.stdin, process.stdout)
        process.stdin.close()


if __name__ == "__main__":
    main(measure, __doc__)
