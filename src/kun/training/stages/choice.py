"""Which objective a recipe is about, and whether it fits the family and the stage."""

from kun.errors import BadRecipe
from kun.families import records
from kun.networks.family import Family
from kun.training.recipe import Recipe

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
    fitting = [name for name in of_stage if name in family.objectives]
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
    if asked not in family.objectives:
        besides = f"; {family.name} learns {', '.join(fitting)} in this stage" if fitting else ""
        raise BadRecipe(
            f'objective.name = "{asked}" does not fit {family.name}: it is for {_families([asked])}{besides}.'
        )
    return asked


def _families(objectives: tuple[str, ...] | list[str]) -> str:
    learn = {name: [one.name for one in records() if name in one.objectives] for name in objectives}
    return ", ".join(dict.fromkeys(family for name in objectives for family in learn[name]))
