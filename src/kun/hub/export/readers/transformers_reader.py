"""The reading of a checkpoint or a GGUF file by transformers: tokens, rendered chats, logits."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from torch import Tensor

    from kun.hub.export.battery import TriedChat
    from kun.hub.export.reading import Job

MISSING = 3
_SPAN = ("start_logits", "end_logits")


def main(folder: Path) -> None:
    job: Job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    try:
        import transformers
    except ImportError:
        sys.exit(MISSING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path, is_gguf = Path(job["model"]), job["format"] == "gguf"
    answer: dict[str, object] = {"reader": f"transformers {transformers.__version__}"}
    if not is_gguf:
        answer |= _read_text(transformers.AutoTokenizer.from_pretrained(path), job)
    if job["sequences"]:
        place: dict[str, Any] = {"pretrained_model_name_or_path": path}
        if is_gguf:
            # of a GGUF file it reads the weights, and not all of the sizes
            config = transformers.AutoConfig.for_model(**job["config"])
            place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, "config": config}
        _read_states(_class(job), place, job, folder / "states.npy")
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _class(job: "Job") -> Any:
    """The class that config.json names, else the general one."""
    import transformers

    general = transformers.AutoModel if job["kind"] == "encoder" else transformers.AutoModelForCausalLM
    return getattr(transformers, job["config"]["architectures"][0], general)


def _read_text(tokenizer: Any, job: "Job") -> dict[str, object]:
    chats = [_render(tokenizer, chat) for chat in job["chats"]]
    return {
        "tokens": [tokenizer(text)["input_ids"] for text in job["texts"]],
        "chats": chats,
        "chat_tokens": [chat and tokenizer(chat, add_special_tokens=False)["input_ids"] for chat in chats],
    }


def _render(tokenizer: Any, chat: "TriedChat") -> str | None:
    """The prompt; None where the template refuses these messages."""
    import jinja2

    try:
        return tokenizer.apply_chat_template(
            chat["messages"], tools=chat["tools"], add_generation_prompt=chat["prompt"], tokenize=False
        )
    except (jinja2.TemplateError, TypeError, ValueError):
        return None


def _read_states(model_class: Any, place: dict[str, Any], job: "Job", path: Path) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(job["threads"])
    model = model_class.from_pretrained(**place, dtype=torch.float32).eval()
    rows = []
    with torch.inference_mode():
        for done, sequence in enumerate(job["sequences"], 1):
            ids = torch.tensor([sequence])
            given = {"decoder_input_ids": ids} if job["kind"] == "encoder-decoder" else {}
            result = model(input_ids=ids, **given)
            parts = [_by_token(name, getattr(result, name)) for name in job["results"]]
            width = max(part.shape[-1] for part in parts)
            rows += [np.pad(part, ((0, 0), (0, width - part.shape[-1]))) for part in parts]
            print(done, len(job["sequences"]), flush=True)
    np.save(path, np.concatenate(rows))


def _by_token(name: str, result: "Tensor") -> "NDArray[float32]":
    """A result [1, t, width] or [1, width], or [1, t] where an answer starts or ends, as float32 rows."""
    return result.reshape(-1, 1 if name in _SPAN else result.shape[-1]).float().numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
