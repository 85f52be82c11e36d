"""§ 10, fine-tuning on a domain: what is gained there, and what general text costs, whole and by LoRA."""

from kun.adaptation.lora import LoraConfig, add_lora
from kun.tour import charts
from kun.tour.drawings.canvas import Label, Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small import networks, world
from kun.tour.small.training import seeded


def _domain(session: Session) -> Shown:
    """The small GPT on sentences of medicine: before, tuned on them alone, with general sentences mixed in, by LoRA."""
    net = session.once(networks.pretrained).net
    general, medicine = world.general(400, 21), world.medicine(400, 22)
    alone = world.rows(world.medicine(400, 23))
    mixed = world.rows([*world.medicine(400, 23), *world.general(400, 24)])
    found = {("before", "微调前"): net}
    with seeded(0):
        for name, rows, lora in (
            (("domain alone", "只用领域文本"), alone, False),
            (("with general text", "混入通用文本"), mixed, False),
            (("with general text, LoRA", "混入通用文本，LoRA"), mixed, True),
        ):
            tuned = networks.copied(net)
            if lora:
                add_lora(tuned, LoraConfig(rank=8))
            networks.pretrain(tuned, rows, 120, 1e-2 if lora else 2e-3)
            found[name] = tuned
    trained = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    share = trained / sum(weight.numel() for weight in net.parameters())
    measured: dict[Label, tuple[float, float]] = {
        name: (networks.perplexity(one, medicine), networks.perplexity(one, general))
        for name, one in found.items()
    }
    before, alone_after, mixed_after, lora_after = measured.values()
    rows_shown = [(name, f"{inside:.2f}", f"{outside:.2f}") for name, (inside, outside) in measured.items()]

    def draw(language: Language) -> str:
        title = ("Perplexity of general text", "通用文本的困惑度")
        return charts.bars(language, title, {name: outside for name, (_, outside) in measured.items()})

    return Shown(
        alone_after[0] < before[0] / 10
        and mixed_after[0] < before[0] / 10
        and mixed_after[1] < 1.1 * before[1] < alone_after[1]
        and lora_after[0] < before[0] / 10
        and lora_after[1] < 1.1 * before[1],
        (
            f"Perplexity of medicine {before[0]:,.0f} → {alone_after[0]:.2f}, of general text "
            f"{before[1]:.2f} → {alone_after[1]:.2f}: it forgets. With general sentences mixed in: "
            f"{mixed_after[0]:.2f} and {mixed_after[1]:.2f}; the same by LoRA, which trains {share:.0%} as many "
            f"numbers: {lora_after[0]:.2f} and {lora_after[1]:.2f}.",
            f"医学句子的困惑度 {before[0]:,.0f} → {alone_after[0]:.2f}，通用句子 {before[1]:.2f} → "
            f"{alone_after[1]:.2f}：忘了旧的。混入通用句子一起训练：{mixed_after[0]:.2f} 和 "
            f"{mixed_after[1]:.2f}；用 LoRA 只训练相当于 {share:.0%} 的参数："
            f"{lora_after[0]:.2f} 和 {lora_after[1]:.2f}。",
        ),
        Table((("small GPT", "小 GPT"), ("medicine", "医学"), ("general", "通用")), rows_shown),
        draw,
    )


IDEA = Idea(
    number=10,
    title=("Fine-tuning", "微调"),
    examples=(Example(("a domain, before and after", "领域文本，微调前后"), _domain),),
    see=(
        "`kun train examples/recipes/medicine.toml`, then `kun eval smollm2-135m-instruct --against "
        "runs/medicine/checkpoint -t examples/tasks/medicine-en.toml -t examples/tasks/everyday-en.toml`",
        "`kun train examples/recipes/medicine-zh.toml`，然后 `kun eval qwen2.5-coder-0.5b-instruct --against "
        "runs/medicine-zh/checkpoint -t examples/tasks/medicine-zh.toml -t examples/tasks/everyday-zh.toml`",
    ),
    comes=(
        "perplexity in the domain and in general, before and after; [adapters](docs/en/adapters.md)",
        "微调前后领域内外的困惑度；[适配器](docs/zh/adapters.md)",
    ),
    sources=(
        "Howard and Ruder, arXiv:1801.06146",
        "Gururangan et al., arXiv:2004.10964",
        "Hu et al. (LoRA), arXiv:2106.09685",
    ),
)
