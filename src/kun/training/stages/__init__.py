"""From a recipe to its run: what each stage puts together for the loop, one file for each kind of data."""

from kun.training.stages.train import train

__all__ = ["train"]
