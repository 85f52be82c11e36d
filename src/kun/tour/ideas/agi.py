"""§ 7, general intelligence: an idea, explained; what can be shown is how narrow a network is."""

from kun.tour.example import Example, Idea, Shown
from kun.tour.session import Session
from kun.tour.small import networks, world


def _narrow(session: Session) -> Shown:
    """The small GPT on sentences of its world, and on sentences of words it knows in an order it never met."""
    net = session.once(networks.pretrained).net
    inside = world.general(300, 11)
    outside = world.medicine(300, 11)
    known, unknown = networks.perplexity(net, inside), networks.perplexity(net, outside)
    chance = world.tokenizer().get_vocab_size()
    return Shown(
        known < 4 and unknown > chance,
        (
            f"A network that has learned one small world: perplexity {known:.1f} within it, {unknown:,.0f} "
            f"on sentences of illnesses, where guessing among all {chance} words would have {chance}. That "
            f"is narrow, not general.",
            f"只学过一个小世界的网络：世界之内困惑度 {known:.1f}；换成讲疾病的句子，{unknown:,.0f}，"
            f"而在全部 {chance} 个词里瞎猜也只有 {chance}。这是专用，不是通用。",
        ),
    )


IDEA = Idea(
    number=7,
    title=("AGI", "AGI"),
    examples=(Example(("a narrow network outside its world", "专用网络离开自己的世界"), _narrow),),
    see=("the [article](examples/handbook/en/07-agi.md)", "[文章](examples/handbook/zh/07-agi.md)"),
    comes=(
        "an idea, explained; a network outside the one small world that it knows",
        "一个设想，讲解清楚；只懂一个小世界的网络，离开它会怎样",
    ),
    sources=("Turing, Mind, 1950", "Chollet, arXiv:1911.01547", "Morris et al., arXiv:2311.02462"),
    note=(
        "General intelligence is an idea, explained in the handbook: no program shows it.",
        "通用人工智能是一个设想，手册里有讲解：没有程序能演示它。",
    ),
)
