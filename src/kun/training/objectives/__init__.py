"""How a batch becomes a loss: one file for each idea."""

from kun.training.objectives.next_token import NextToken
from kun.training.objectives.objective import Objective

__all__ = ["NextToken", "Objective"]
