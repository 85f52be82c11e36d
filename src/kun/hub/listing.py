"""The models that are here or can be had, as rows of a table."""

from typing import TypedDict

from kun.hub.catalog import Entry, catalog
from kun.hub.disk import cache_of
from kun.hub.store import InstalledModel, installed


class ModelRow(TypedDict):
    """One model; see `kun.api.models`."""

    name: str
    kind: str
    bytes: int
    cached: int
    licence: str | None
    here: bool
    whole: bool | None
    source: str | None
    base: str | None
    description: str


def rows() -> list[ModelRow]:
    """The models of the catalog in its order, then the others that are here."""
    here = {model.name: model for model in installed()}
    known = catalog()
    here_alone = [_row(model, model) for name, model in here.items() if name not in known]
    return [*(_row(here.get(name, entry), here.get(name)) for name, entry in known.items()), *here_alone]


def _row(facts: InstalledModel | Entry, here: InstalledModel | None) -> ModelRow:
    return {
        "name": facts.name,
        "kind": facts.kind,
        "bytes": facts.bytes,
        "cached": cache_of(here.path) if here else 0,
        "licence": facts.licence,
        "here": here is not None,
        "whole": here.whole if here else None,
        "source": here.source if here else None,
        "base": here.base if here else None,
        "description": facts.description,
    }
