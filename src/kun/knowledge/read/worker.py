"""Runs in a process of its own: a request a line on standard input, an answer a line on standard output."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from kun.errors import DamagedFile, HoldsNoText, KunError, Unavailable
from kun.knowledge.read.pulse import on_beat


def main() -> None:
    """Answer requests until the input ends."""
    _limit_memory(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers

    def beat() -> None:
        answers.write(b"\n")
        answers.flush()

    on_beat(beat)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
        answers.flush()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The text, or what is wrong, in the user's words."""
    from kun.knowledge.read.formats import READERS

    name = request["name"]
    try:
        extracted = READERS[request["format"]](Path(request["file"]), name)
    except HoldsNoText as error:
        return {"error": HoldsNoText.__name__, "message": str(error), "what": error.what}
    except KunError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except ImportError as error:
        message = f"{name} needs the package {error.name}: install Kun again, with all that it depends on."
        return {"error": Unavailable.__name__, "message": message}
    except MemoryError:
        return {"error": DamagedFile.__name__, "message": f"{name} needs too much memory to read: split it."}
    except RecursionError:
        return {"error": DamagedFile.__name__, "message": f"{name} is nested too deeply to read."}
    except Exception as error:  # a library that a damaged file led astray
        why = (str(error).strip().splitlines() or [""])[0][:160]
        message = f"{name} is damaged and cannot be read ({type(error).__name__}: {why})."
        return {"error": DamagedFile.__name__, "message": message}
    return {
        "text": extracted.text,
        "kind": extracted.kind,
        "pages": extracted.pages,
        "skipped": extracted.skipped,
    }


def _limit_memory(most: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
