"""The reading of a GGUF file by llama.cpp, through llama-cpp-python: tokens, rendered chats, logits."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_cpp import Llama

    from kun.hub.export.battery import TriedChat
    from kun.hub.export.reading import Job

MISSING = 3
_FLOAT32 = 0  # of ggml's types, for keys and values


def main(folder: Path) -> None:
    job: Job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    try:
        import llama_cpp
    except ImportError:
        sys.exit(MISSING)
    model = _open(job)
    answer = {"reader": f"llama.cpp (llama-cpp-python {llama_cpp.__version__})", **_read_text(model, job)}
    if job["sequences"]:
        read = _embeddings if job["kind"] == "encoder" else _logits
        read(model, job, folder / "states.npy")
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _open(job: "Job") -> "Llama":
    import llama_cpp

    encoder = job["kind"] == "encoder"
    tokens = max(map(len, job["sequences"]), default=0) + 8
    return llama_cpp.Llama(
        job["model"],
        n_ctx=tokens,
        n_batch=tokens,
        n_ubatch=tokens,
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        n_gpu_layers=0,
        logits_all=not encoder,
        embedding=encoder,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE
        if encoder
        else llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED,
        type_k=_FLOAT32,
        type_v=_FLOAT32,
        flash_attn=False,
        verbose=True,  # on standard error, which is shown where it fails
    )


def _read_text(model: "Llama", job: "Job") -> dict[str, object]:
    chats = [_render(model, chat) for chat in job["chats"]]
    return {
        "tokens": [model.tokenize(text.encode(), add_bos=True, special=True) for text in job["texts"]],
        "chats": chats,
        "chat_tokens": [
            None if chat is None else model.tokenize(chat.encode(), add_bos=False, special=True)
            for chat in chats
        ],
    }


def _render(model: "Llama", chat: "TriedChat") -> str | None:
    """The prompt; None where the file has no template, or its template refuses these messages."""
    import jinja2
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    template = model.metadata.get("tokenizer.chat_template")
    if template is None:
        return None
    begin, end = (
        "" if token < 0 else model._model.token_get_text(token)
        for token in (model.token_bos(), model.token_eos())
    )
    formatter = Jinja2ChatFormatter(
        template, eos_token=end, bos_token=begin, add_generation_prompt=chat["prompt"]
    )
    try:
        return formatter(messages=chat["messages"], tools=chat["tools"]).prompt
    except (jinja2.TemplateError, TypeError, ValueError):
        return None


def _logits(model: "Llama", job: "Job", path: Path) -> None:
    import numpy as np

    rows = []
    for done, sequence in enumerate(job["sequences"], 1):
        model.reset()
        model.eval(sequence)
        rows.append(np.array(model.scores[: len(sequence)], np.float32))
        print(done, len(job["sequences"]), flush=True)
    np.save(path, np.concatenate(rows))


def _embeddings(model: "Llama", job: "Job", path: Path) -> None:
    """The states of an encoder's tokens; it takes texts alone, those that the sequences were made of."""
    import numpy as np

    rows = []
    for done, text in enumerate(job["sequence_texts"], 1):
        rows.append(np.array(model.embed(text, normalize=False), np.float32))
        print(done, len(job["sequences"]), flush=True)
    np.save(path, np.concatenate(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
