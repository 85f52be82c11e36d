"""§ 12, self-attention: "I love my dog.", three steps for "I" in numbers, BERT and GPT side by side."""

from kun.inspection.attention import looks
from kun.inspection.moves import Move, moves, stack_moves, steps_of
from kun.inspection.opened import Opened
from kun.tour import charts
from kun.tour.drawings.canvas import Label, Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small import networks, world

_SENTENCE, _WORD = "I love my dog.", "I"


def _small(session: Session) -> Shown:
    """The two small networks of the tour."""
    bert = Opened.of("small BERT", session.once(networks.masked), world.tokenizer(), "encoder")
    gpt = Opened.of("small GPT", session.once(networks.pretrained).net, world.tokenizer(), "decoder")
    return _side_by_side(bert, gpt)


def _published(session: Session) -> Shown:
    """Two published ones."""
    return _side_by_side(session.opened("all-minilm-l6-v2"), session.opened("smollm2-135m-instruct"))


def _side_by_side(bert: Opened, gpt: Opened) -> Shown:
    [both_ways], [causal] = (looks(opened, _SENTENCE) for opened in (bert, gpt))
    [(look, steps)], [(other, causal_steps)] = (steps_of([seen], _WORD) for seen in (both_ways, causal))
    seen = [place for place in range(len(look.looked_at)) if look.looked_at[place].isalpha()]
    later = sum(steps.weights[steps.place + 1 :])
    hidden = sum(causal_steps.weights[causal_steps.place + 1 :])
    found = moves(look, steps.place)
    best = max(found, key=lambda move: move.gain)
    stack = {move.towards: move for move in stack_moves(look, steps.place)}
    rows = [
        (
            look.looked_at[place],
            f"{steps.products[place]:.2f}",
            f"{steps.scores[place]:.2f}",
            f"{steps.weights[place]:.2f}",
            *_moved(found, place, steps.place),
        )
        for place in seen
    ]

    def draw(language: Language) -> str:
        title: Label = ("The weights of “I”", "“I” 的注意力权重")
        shown = [place for place, token in enumerate(other.looked_at) if token.isalpha()]
        names: list[Label] = [("BERT", "BERT"), ("GPT", "GPT")]
        columns: list[Label] = [(look.looked_at[place], look.looked_at[place]) for place in seen]
        values = [[steps.weights[place] for place in seen], [causal_steps.weights[place] for place in shown]]
        return charts.grid(language, title, names, columns, values)

    return Shown(
        later > 0.05 and hidden == 0 and best.gain > 0 and abs(sum(steps.weights) - 1) < 1e-4,
        (
            f"{bert.name}: “I” spends {later:.2f} of its attention on the words after it; it moves most in "
            f"layer {best.layer}, head {best.head}, towards “{best.towards}” (cosine {best.before:+.3f} → "
            f"{best.after:+.3f}; through all layers {stack[best.towards].before:+.2f} → "
            f"{stack[best.towards].after:+.2f}). {gpt.name}: {hidden:.2f} on the words after it, for it is "
            f"causal.",
            f"{bert.name}：“I” 把 {later:.2f} 的注意力给了后面的词；在第 {best.layer} 层第 {best.head} "
            f"个头移动最大，朝向“{best.towards}”（余弦 {best.before:+.3f} → {best.after:+.3f}；穿过所有层 "
            f"{stack[best.towards].before:+.2f} → {stack[best.towards].after:+.2f}）。{gpt.name} "
            f"有因果掩码：给后面的词 {hidden:.2f}。",
        ),
        Table(
            (
                ("word", "词"),
                ("1. q · k", "1. q · k"),
                ("/ √d", "除以 √d"),
                ("2. softmax", "2. softmax"),
                ("moves most in layer, head", "移动最大处：层、头"),
                ("cosine there", "那里的余弦"),
            ),
            rows,
        ),
        draw,
    )


def _moved(found: list[Move], place: int, own: int) -> tuple[str, str]:
    if place == own:
        return "", ""
    move = found[place - (place > own)]
    return f"{move.layer}, {move.head}", f"{move.before:+.3f} → {move.after:+.3f}"


IDEA = Idea(
    number=12,
    title=("Self-attention", "自注意力"),
    examples=(
        Example(("I love my dog, in two small networks", "I love my dog：两个小网络"), _small),
        Example(
            ("I love my dog, in two published networks", "I love my dog：两个公开的网络"),
            _published,
            ("all-minilm-l6-v2", "smollm2-135m-instruct"),
        ),
    ),
    see=(
        '`kun inspect attention "I love my dog." --word I`',
        '`kun inspect attention "I love my dog." --word I`',
    ),
    comes=(
        "the three steps for “I” in numbers, the layer and head where it moves most towards each word, the "
        "whole stack; BERT and GPT side by side",
        "“I” 的三步和其中的数字，朝每个词移动最大的层和头，以及整叠层；BERT 与 GPT 对照",
    ),
    sources=("Vaswani et al., arXiv:1706.03762", "Clark et al., arXiv:1906.04341"),
)
