"""What training is measured against, in a process of its own: torch as it is mostly used, and the Hugging Face Trainer.

python -m benchmarks.training_peer gpt --layers 6 --width 384 --precision bf16 --compile
python -m benchmarks.training_peer trainer --model FOLDER
python -m benchmarks.training_peer trainer --model FOLDER --rank 16
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

ROWS, CONTEXT, VOCAB = 8, 256, 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["gpt", "trainer"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--rank", type=int, help="train an adapter by PEFT, on all matrices of the layers")
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    speed = _gpt(given) if given.kind == "gpt" else _trainer(given)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens_per_s": speed, "bytes": memory}))


def _gpt(given: argparse.Namespace) -> float:
    """The reference's GPT-2 with torch's own loss and fused AdamW: tokens/s of the best step."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=given.width, n_layer=given.layers, n_head=given.width // 64,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    net = GPT2LMHeadModel(config).train()
    call: Callable[..., torch.Tensor] = lambda ids: net(ids).logits  # noqa: E731
    if given.compile:
        call = torch.compile(call)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    ids = torch.randint(0, VOCAB, (ROWS, CONTEXT + 1))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            logits = call(ids[:, :-1])
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return ROWS * CONTEXT / _best(step, given.steps)


def _trainer(given: argparse.Namespace) -> float:
    """Fine-tuning of a checkpoint, full or by an adapter, at 4 × 512 by the Hugging Face Trainer in bfloat16."""
    import tempfile

    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    net = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    if given.rank:
        from peft import LoraConfig, get_peft_model

        net = get_peft_model(
            net, LoraConfig(r=given.rank, lora_alpha=2 * given.rank, target_modules="all-linear")
        )
    rows = [
        {"input_ids": (row := torch.randint(0, net.config.vocab_size, (512,))), "labels": row}
        for _ in range(64)
    ]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: object, **named: object) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *args: object, **named: object) -> None:
            times.append(time.perf_counter() - self.began)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=4, max_steps=given.steps, bf16=True, use_cpu=True, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, optim="adamw_torch_fused",
        )  # fmt: skip
        Trainer(net, arguments, train_dataset=rows, callbacks=[Clock()]).train()
    return 4 * 512 / min(times[1:])


def _best(step: Callable[[], None], count: int) -> float:
    times = []
    for _ in range(count + 2):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times[2:])


if __name__ == "__main__":
    main()
