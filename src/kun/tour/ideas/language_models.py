"""§ 8, large language models: one model summarizes, translates, judges and writes code, by words alone."""

import ast

import torch

from kun.errors import KunError
from kun.families import family_of
from kun.models.language_model import LanguageModel
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.likeliest import likeliest
from kun.tour.session import LANGUAGE_MODEL, Session

_STORY = (
    "The ferry to the island was cancelled on Monday because of a storm. Forty passengers spent the night "
    "in the school gym, where neighbours brought them soup and blankets. On Tuesday the sea was calm and "
    "all of them crossed safely."
)
_FAMILIES = (
    ("BERT", "bert", "bert-base-chinese", 102),
    ("ERNIE 文心", "ernie", "ernie-3.0-base-zh", 118),
    ("ChatGLM", "glm", "chatglm3-6b", 6_240),
    ("BLOOM", "bloom", "bloom-560m", 559),
    ("LLaMA", "llama", "llama-7b", 6_740),
    ("Qwen2.5", "qwen2", "qwen2.5-0.5b", 494),
    ("T5", "t5", "t5-base", 223),
)
"""Family, model type, preset, its published weights' parameters in millions."""
_ALLOWED = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Expr, ast.Constant, ast.Name, ast.Load,
    ast.Store, ast.Assign, ast.AugAssign, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.If, ast.IfExp, ast.Mod,
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Div, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.And,
    ast.Or, ast.Not, ast.USub, ast.BitAnd,
)  # fmt: skip
"""Syntax of a function that can do nothing but count: no calls, no attributes, no imports, no loops, no powers."""


def _families(session: Session) -> Shown:
    """Architectures of this list that are here, each by the record of its own file."""
    del session
    rows, off = [], []
    for shown, model_type, preset, published in _FAMILIES:
        family = family_of({"model_type": model_type})
        with torch.device("meta"):
            count = (
                sum(weight.numel() for weight in family.network(family.presets[preset]).parameters()) / 1e6
            )
        off.append(abs(count / published - 1))
        rows.append((shown, family.kind, preset, f"{count:,.0f} M", f"{published:,} M"))
    return Shown(
        max(off) < 0.03,
        (
            f"{len(rows)} families of the list are architectures here, ERNIE (文心) among them; their "
            f"networks have the parameters of the published weights, at most {max(off):.1%} apart.",
            f"名单里的 {len(rows)} 个系列在这里都有各自的结构，包括文心（ERNIE）；"
            f"参数量与公开的权重最多相差 {max(off):.1%}。",
        ),
        Table(
            (
                ("family", "系列"),
                ("kind", "类型"),
                ("preset", "预设"),
                ("counted", "数出"),
                ("published", "公开"),
            ),
            rows,
        ),
    )


def _asked(lm: LanguageModel, question: str, most: int = 80) -> str:
    return str(lm.generate([{"role": "user", "content": question}], max_tokens=most, temperature=0.0)).strip()


def _translation(session: Session) -> Shown:
    lm = session.language_model()
    said = _asked(lm, "Translate into Chinese: I love my dog. Answer with the translation alone.")
    return Shown(
        any(word in said for word in ("爱", "喜欢")) and "狗" in said,
        (f"{lm.name}: I love my dog. → {said}", f"{lm.name}：I love my dog. → {said}"),
    )


def _summary(session: Session) -> Shown:
    lm = session.language_model()
    said = _asked(lm, f"Summarize in one short sentence:\n\n{_STORY}")
    words = len(said.split())
    return Shown(
        words < 0.7 * len(_STORY.split())
        and any(word in said.lower() for word in ("ferry", "storm", "island")),
        (
            f"{lm.name}: {len(_STORY.split())} words become {words}.",
            f"{lm.name}：{len(_STORY.split())} 个词的原文，摘要 {words} 个词。",
        ),
        quote=f"{_STORY}\n→ {said}",
    )


def _sentiment(session: Session) -> Shown:
    lm = session.language_model()
    texts = {"The film was dull.": "negative", "What a wonderful evening!": "positive"}
    prompts = [f"Is the opinion positive or negative?\nOpinion: {text}\nAnswer:" for text in texts]
    said = likeliest(lm, prompts, ("positive", "negative"))
    pairs = "; ".join(f"{text} → {label}" for text, label in zip(texts, said, strict=True))
    return Shown(said == [*texts.values()], (f"{lm.name}: {pairs}", f"{lm.name}：{pairs}"))


def _code(session: Session) -> Shown:
    """A function is written, looked through for anything but counting, and run."""
    lm = session.language_model()
    said = _asked(
        lm,
        "Write a Python function is_even(n) that returns True when n is even. One return statement, no "
        "comments, code alone.",
        120,
    )
    results = [_run(said, number) for number in (0, 7, 10, 2**40 + 1)]
    return Shown(
        results == [True, False, True, False],
        (
            f"{lm.name} writes is_even; run on 0, 7, 10 and 2⁴⁰ + 1 it says {', '.join(map(str, results))}.",
            f"{lm.name} 写出 is_even；用 0、7、10 和 2⁴⁰ + 1 运行，结果是 {'、'.join(map(str, results))}。",
        ),
        quote=said,
    )


def _run(answer: str, number: int) -> object:
    """`is_even(number)` of the code in `answer`; an error's words where it is not such a function, or fails."""
    code = answer.split("```")[1].removeprefix("python") if "```" in answer else answer
    try:
        tree = ast.parse(code.strip())
        strange = [node for node in ast.walk(tree) if not isinstance(node, _ALLOWED)]
        if strange:
            return f"not run: {type(strange[0]).__name__}"
        for node in ast.walk(tree):  # what annotations name is not there
            if isinstance(node, ast.arg):
                node.annotation = None
            if isinstance(node, ast.FunctionDef):
                node.returns = None
        names: dict[str, object] = {"__builtins__": {}}
        exec(compile(tree, "<answer>", "exec"), names)
        made = names.get("is_even")
        return made(number) if callable(made) else "no is_even"
    except (SyntaxError, ArithmeticError, NameError, TypeError, ValueError, KunError) as error:
        return f"{type(error).__name__}"


IDEA = Idea(
    number=8,
    title=("LLM", "大语言模型"),
    examples=(
        Example(("the families of the list are here", "名单里的系列都在这里"), _families),
        Example(("translation", "翻译"), _translation, (LANGUAGE_MODEL,)),
        Example(("summary", "摘要"), _summary, (LANGUAGE_MODEL,)),
        Example(("sentiment", "情感"), _sentiment, (LANGUAGE_MODEL,)),
        Example(("code that runs", "能运行的代码"), _code, (LANGUAGE_MODEL,)),
    ),
    see=(
        '`kun generate qwen2.5-coder-0.5b-instruct --chat -p "Translate into Chinese: I love my dog."`; '
        "`kun eval MODEL --task TASK`",
        '`kun generate qwen2.5-coder-0.5b-instruct --chat -p "把这句话译成英文：我爱我的狗。"`；'
        "`kun eval 模型 --task 任务`",
    ),
    comes=(
        "a translation, a summary, a judgement, a function that runs; [ERNIE](docs/en/families/llama.md), "
        "[ChatGLM](docs/en/families/glm.md), [BLOOM](docs/en/families/bloom.md) load",
        "翻译、摘要、情感判断、能运行的函数；[ERNIE](docs/zh/families/llama.md)、"
        "[ChatGLM](docs/zh/families/glm.md)、[BLOOM](docs/zh/families/bloom.md) 都能加载",
    ),
    sources=(
        "Zhao et al., arXiv:2303.18223",
        "ERNIE arXiv:1904.09223; BLOOM arXiv:2211.05100; GLM arXiv:2406.12793",
    ),
)
