"""The blocks of the Transformer, with the sizes of the base model's own config."""

from kun.families.transformer import TransformerConfig
from kun.tour.drawings.canvas import DIM, GREEN, SOFT, WARM, Canvas, Label, Language

_WIDTH, _HEIGHT, _STEP = 210, 30, 44
_BOTTOM = 450


def transformer(language: Language) -> str:
    """Encoder and decoder, from the words at the bottom to the next word's probabilities at the top."""
    config = TransformerConfig()
    c = Canvas(640, 510, ("The blocks of the Transformer", "Transformer 的各个部件"), language)
    norm = ("add the input, normalize", "与输入相加，归一化")
    forward = (
        f"feed-forward {config.d_model} → {config.d_ff} → {config.d_model}",
        f"前馈网络 {config.d_model} → {config.d_ff} → {config.d_model}",
    )
    heads = f"{config.n_heads} × {config.d_model // config.n_heads}"
    encoder: list[Label] = [(f"self-attention, {heads}", f"自注意力，{heads}"), norm, forward, norm]
    heads = f"{config.n_decoder_heads} × {config.d_decoder_head}"
    decoder: list[Label] = [
        (f"masked self-attention, {heads}", f"带掩码的自注意力，{heads}"),
        norm,
        (f"cross-attention, {heads}", f"交叉注意力，{heads}"),
        norm,
        forward,
        norm,
    ]
    left, right = 60, 370
    top = _column(c, left, ("source words", "源句的词"), encoder, config)
    _layers(c, left, len(encoder), config.n_layers, ("Encoder", "编码器"))
    ends = _column(c, right, ("target words so far", "已写出的译文"), decoder, config)
    _layers(c, right, len(decoder), config.n_decoder_layers, ("Decoder", "解码器"))
    cross = _BOTTOM - 3 * _STEP - 8 + _HEIGHT / 2
    x = left + _WIDTH / 2
    c.line((x, top), (x, top - 24), (315, top - 24), (315, cross))
    c.arrow((315, cross), (right, cross))
    c.text(315, top - 36, ("keys, values", "键、值"), size=11, colour=DIM)
    for row, label in enumerate(
        [
            ("linear, then softmax", "线性层，softmax"),
            ("probability of each next word", "下一个词的概率"),
        ]
    ):
        y = ends - (row + 1) * _STEP - 20
        below = y + _STEP + (20 if row == 0 else 0)
        c.arrow((right + _WIDTH / 2, below), (right + _WIDTH / 2, y + _HEIGHT + 1))
        c.box(right, y, _WIDTH, _HEIGHT, label, fill=WARM)
    return c.svg()


def _column(c: Canvas, x: int, words: Label, parts: list[Label], config: TransformerConfig) -> float:
    """The words, their embedding with positions, and the parts of one layer above each other; the top's height."""
    middle = x + _WIDTH / 2
    embedding = (
        f"embedding ({config.d_model}) + positions",
        f"词嵌入（{config.d_model} 维）+ 位置编码",
    )
    c.text(middle, _BOTTOM + _HEIGHT + 16, words)
    c.arrow((middle, _BOTTOM + _HEIGHT + 6), (middle, _BOTTOM + _HEIGHT + 1))
    c.box(x, _BOTTOM, _WIDTH, _HEIGHT, embedding, fill=WARM)
    for row, part in enumerate(parts):
        y = _BOTTOM - (row + 1) * _STEP - 8
        is_norm = row % 2 == 1
        below = y + _STEP + (8 if row == 0 else 0)
        c.arrow((middle, below), (middle, y + _HEIGHT + 1))
        c.box(x, y, _WIDTH, _HEIGHT, part, fill=GREEN if is_norm else SOFT)
        if is_norm:  # the residual connection around the part below
            start, side = y + 2 * _STEP - (_STEP - _HEIGHT) / 2, x + _WIDTH + 12
            c.line((middle, start), (side, start), (side, y + _HEIGHT / 2), colour=DIM)
            c.arrow((side, y + _HEIGHT / 2), (x + _WIDTH, y + _HEIGHT / 2), colour=DIM)
    return _BOTTOM - len(parts) * _STEP - 8


def _layers(c: Canvas, x: int, parts: int, layers: int, name: Label) -> None:
    top = _BOTTOM - parts * _STEP - 16
    c.frame(x - 12, top, _WIDTH + 36, parts * _STEP + 12)
    c.text(
        x - 12,
        top - 12,
        (f"{name[0]}, {layers} layers", f"{name[1]}，{layers} 层"),
        anchor="start",
        bold=True,
    )
