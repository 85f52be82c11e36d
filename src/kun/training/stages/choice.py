"""Which objective a recipe is about, and whether it fits the family and the stage."""

from kun.errors import BadRecipe
from kun.families import Family
from kun.training.recipe import Recipe

_BERTS = ("bert", "roberta", "ernie")
_DECODERS = ("gpt", "llama", "bloom", "glm", "chatglm", "lstm")
_JUDGES = ("gpt", "llama", "bloom", "glm")
_ENCODER_DECODERS = ("transformer", "t5", "switch", "gshard")

FAMILIES: dict[str, tuple[str, ...]] = {
    "next_token": _DECODERS,
    "masked": _BERTS,
    "span": _ENCODER_DECODERS,
    "permutation": ("xlnet",),
    "seq2seq": _ENCODER_DECODERS,
    "classify": (*_BERTS, *_JUDGES),
    "regress": (*_BERTS, *_JUDGES),
    "answer_span": _BERTS,
}
"""The families that learn each objective."""

_TEXT = ("next_token", "masked", "span", "permutation")
STAGES: dict[str, tuple[str, ...]] = {
    "pretrain": _TEXT,
    "finetune": _TEXT,
    "translate": ("seq2seq",),
    "classify": ("classify", "regress", "answer_span"),
}
"""The objectives of each stage; what is left out of a recipe is the first that fits the family."""


def objective_of(recipe: Recipe, family: Family) -> str:
    """The objective by its name. Raises `BadRecipe`, which says what would fit."""
    of_stage, asked = STAGES[recipe.stage], recipe.objective.name
    fitting = [name for name in of_stage if family.name in FAMILIES[name]]
    if asked is None:
        if not fitting:
            raise BadRecipe(
                f'stage = "{recipe.stage}" is about {", ".join(of_stage)}, which {family.name} does not learn: '
                f"name a model of {_families(of_stage)}."
            )
        return fitting[0]
    if asked not in of_stage:
        stages = [stage for stage, names in STAGES.items() if asked in names]
        raise BadRecipe(
            f'objective.name = "{asked}" is none of stage = "{recipe.stage}" ({", ".join(of_stage)}); it is one of '
            f"{', '.join(stages)}."
        )
    if family.name not in FAMILIES[asked]:
        besides = f"; {family.name} learns {', '.join(fitting)} in this stage" if fitting else ""
        raise BadRecipe(
            f'objective.name = "{asked}" does not fit {family.name}: it is for {_families([asked])}{besides}.'
        )
    return asked


def _families(objectives: tuple[str, ...] | list[str]) -> str:
    return ", ".join(dict.fromkeys(name for objective in objectives for name in FAMILIES[objective]))
