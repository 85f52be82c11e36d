"""Shared work of one tour: networks that several examples train only once, and models that are opened only once."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from kun.errors import ModelNotFound
from kun.hub.store import resolve
from kun.settings import DEFAULT_MODEL, LARGER_MODEL

if TYPE_CHECKING:
    from kun.inspection.opened import Opened
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel
    from kun.wordvectors.tokens import TokenVectors
    from kun.wordvectors.vectors import WordVectors

LANGUAGE_MODEL = "language model"
"""A need that the language model of this machine meets, the chosen one before others (see `kun.models.chosen`)."""
HANDBOOK = "handbook"
"""The need of the handbook's pages."""

T = TypeVar("T")


class Session:
    """One run of the tour. Models are looked for here and never fetched."""

    def __init__(self, handbook: Path | None = None) -> None:
        """`handbook` is the folder of the handbook, None where it is not installed."""
        self.handbook = handbook
        self._made: dict[Hashable, object] = {}

    def once(self, make: "Callable[[Session], T]") -> T:
        """The result of `make`, a function of a module, which runs when it is first asked for."""
        return self._kept(make, lambda: make(self))

    def missing(self, needs: tuple[str, ...]) -> str:
        """Names of what is needed and not here, with commas between them; empty where all is."""
        return ", ".join(self._name(need) for need in needs if not self._is_met(need))

    def _is_met(self, need: str) -> bool:
        return self.handbook is not None if need == HANDBOOK else _is_here(self._name(need))

    def language_model(self) -> "LanguageModel":
        """The language model of this machine, in 4 bits. Raises `ModelNotFound` where none is here."""
        from kun.models.language_model import LanguageModel

        def opened() -> "LanguageModel":
            return LanguageModel.open(resolve(self._name(LANGUAGE_MODEL)), quantize="int4")

        return self._kept("language model", opened)

    def writer(self, name: str) -> "LanguageModel":
        """A language model of the catalog that is here, unquantized. Raises `ModelNotFound` where it is not."""
        from kun.models.language_model import LanguageModel

        return self._kept(("writer", name), lambda: LanguageModel.open(resolve(name)))

    def encoder(self, name: str) -> "Encoder":
        """An encoder of the catalog that is here. Raises `ModelNotFound` where it is not."""
        from kun.models.encoder import Encoder

        return self._kept(("encoder", name), lambda: Encoder.open(resolve(name)))

    def vectors(self, name: str) -> "WordVectors":
        """Word vectors of the catalog that are here. Raises `ModelNotFound` where they are not."""
        from kun.wordvectors.vectors import WordVectors

        return self._kept(("vectors", name), lambda: WordVectors.open(resolve(name)))

    def tokens(self, name: str) -> "TokenVectors":
        """The table of a model that is here. Raises `ModelNotFound` where it is not."""
        from kun.wordvectors.tokens import open_tokens

        return self._kept(("tokens", name), lambda: open_tokens(resolve(name)))

    def opened(self, name: str) -> "Opened":
        """A model opened for looking inside. Raises `ModelNotFound` where it is not here."""
        from kun.inspection.opened import Opened

        return self._kept(("opened", name), lambda: Opened.open(resolve(name)))

    def close(self) -> None:
        """Let go of everything that was made, and end the language model's engine."""
        from kun.models.language_model import LanguageModel

        for made in self._made.values():
            if isinstance(made, LanguageModel):
                made.close()
        self._made.clear()

    def _kept(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def _name(self, need: str) -> str:
        if need != LANGUAGE_MODEL:
            return need
        here = [name for name in (LARGER_MODEL, DEFAULT_MODEL) if _is_here(name)]
        if not here:
            return DEFAULT_MODEL
        from kun.models.chosen import chosen

        choice = chosen().name
        return choice if _is_here(choice) else here[0]


def _is_here(name: str) -> bool:
    try:
        resolve(name)
    except ModelNotFound:
        return False
    return True
