"""Models of all kinds and knowledge bases that are served, each loaded once, when it is first asked for."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast

from kun import api
from kun.errors import BadInput, KunError, ModelNotFound, Unavailable
from kun.hub.store import display_name, installed
from kun.knowledge.base import KnowledgeBase, check_name
from kun.knowledge.manifest import Manifest
from kun.settings import DEFAULT_ENCODER, settings

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from kun.alignment.reward_model import RewardModel
    from kun.inspection.opened import Opened
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel
    from kun.wordvectors.vectors import WordVectors

log = logging.getLogger("kun.server")
Thing = TypeVar("Thing")

_MOST_VECTORS = 4
"""Word vectors, and tables of models, that stay open."""


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be asked for by `name`."""

    name: str
    kind: Literal["decoder", "encoder", "reward"]


class Service:
    """Models and knowledge bases by name, for the API and the web app. Safe for several threads.

    `model`, `encoder` and `reward` are names, or paths: then they go by the last part of the path. `adapters` are
    folders by the names that they are to have, beside those that are here. Without a `reward` none is served. A
    request from outside never pulls a model, and never names a path.
    """

    def __init__(
        self,
        model: str | None = None,
        encoder: str | None = None,
        quantize: str | None = "int4",
        adapters: Mapping[str, str | Path] | None = None,
        reward: str | None = None,
    ) -> None:
        self.default_model, self._model_place = _named(model or api.chosen_model().name)
        self.default_encoder, self._encoder_place = _named(encoder or DEFAULT_ENCODER)
        self.default_reward: str | None = None
        self._reward_place = ""
        if reward:
            self.default_reward, self._reward_place = _named(reward)
        self._quantize = quantize
        self._adapters = dict(adapters or {})
        self._models: _Loaded[LanguageModel] = _Loaded(lambda model: model.close())
        self._encoders: _Loaded[Encoder] = _Loaded(lambda encoder: None)
        self._rewards: _Loaded[RewardModel] = _Loaded(lambda model: None)
        self._vectors: _Loaded[WordVectors] = _Loaded(lambda vectors: None, most=_MOST_VECTORS)
        self._bases: _Loaded[KnowledgeBase] = _Loaded(lambda base: base.close())

    def check(self) -> None:
        """Find out before anyone asks whether the default models are what they should be.

        Raises `BadInput` for a text encoder as the model or a model as the encoder, for an adapter with the name of a
        model or for no language model, for a reward model that is none, and what opening raises.
        """
        from kun.hub.opening import open_checkpoint

        if open_checkpoint(api.locate(self._model_place)).kind != "decoder":
            raise BadInput(
                f"{self.default_model} is a text encoder and writes no text: name a language model."
            )
        if open_checkpoint(api.locate(self._encoder_place)).kind != "encoder":
            raise BadInput(
                f"{self.default_encoder} is a language model and makes no vectors: name an encoder."
            )
        self._check_adapters()
        self._check_reward()

    def _check_reward(self) -> None:
        from kun.models.kinds import Candidate, kind_of

        if self.default_reward is None:
            return
        if kind_of(Candidate(api.locate(self._reward_place))).name != "reward model":
            raise BadInput(
                f'{self.default_reward} is no reward model: name the checkpoint of a training of stage = "reward".'
            )
        if self.default_reward in [model.name for model in (*self.models(), *self.encoders())]:
            raise BadInput(
                f"There is a model {self.default_reward} already: give the reward model's folder another name."
            )

    def _check_adapters(self) -> None:
        from kun.hub.adapter import AdapterCheckpoint

        taken = {self.default_model, self.default_encoder, *(model.name for model in installed())}
        for name, folder in self._adapters.items():
            if name in taken:
                raise BadInput(f"There is a model {name} already: give the adapter {folder} another name.")
            if AdapterCheckpoint.open(api.locate(folder)).kind == "encoder":
                raise BadInput(
                    f"{folder} is an adapter of a text encoder; those of language models are served."
                )

    def models(self) -> list[ModelInfo]:
        """The language models that are here, the default one first, and those that adapters make of them."""
        names = [model.name for model in installed() if model.kind not in ("encoder", "pipeline", "vectors")]
        every = dict.fromkeys([self.default_model, *names, *self._adapters])
        return [ModelInfo(name, "decoder") for name in every]

    def encoders(self) -> list[ModelInfo]:
        """The text encoders that are here, the default one first."""
        names = [model.name for model in installed() if model.kind == "encoder"]
        every = [name for name in (self.default_encoder, *names) if name != self.default_reward]
        return [ModelInfo(name, "encoder") for name in dict.fromkeys(every)]

    def reward_models(self) -> list[ModelInfo]:
        """The reward model, where one is served."""
        return [ModelInfo(self.default_reward, "reward")] if self.default_reward else []

    def readable(self) -> list[ModelInfo]:
        """The models that can be looked into."""
        return [*self.models(), *self.encoders()]

    def opened(self, name: str) -> "Opened":
        """A model to look into, float32, opened anew. Raises `ModelNotFound` for one that is not here."""
        from kun.inspection.opened import Opened

        return Opened.open(self._place(name))

    def tokenizer(self, name: str) -> "Tokenizer":
        """The tokenizer of a model. Raises `ModelNotFound` for one that is not here."""
        from kun.hub.opening import open_checkpoint

        return open_checkpoint(api.locate(self._place(name))).tokenizer

    def vectors(self) -> list[str]:
        """The word vectors that are here, pulled or trained, then the models whose own tables can be asked."""
        return [*self._vector_places(), *(model.name for model in self.readable())]

    def _vector_places(self) -> dict[str, Path]:
        from kun.hub.word_vectors import is_word_vectors

        trained = sorted(settings().runs.glob("*/checkpoint"))
        places = {display_name(path): path for path in trained if is_word_vectors(path)}
        return {model.name: model.path for model in installed() if model.kind == "vectors"} | places

    def word_vectors(self, name: str) -> "WordVectors":
        """Word vectors, or the table of a model. Raises `ModelNotFound` for what is not here."""
        from kun.wordvectors.opening import open_vectors

        place = self._vector_places().get(name) or api.locate(self._place(name))
        # a run that is trained anew is another folder of the same name
        return self._vectors.get(f"{name}\0{place.stat().st_mtime_ns}", lambda: open_vectors(place))

    def _place(self, name: str) -> str:
        """The name or path to open for a model that is here."""
        places = {self.default_model: self._model_place, self.default_encoder: self._encoder_place}
        if name not in [model.name for model in self.readable()]:
            raise _not_served(name)
        return str((self._adapters | places).get(name, name))

    def language_model(self, name: str | None = None) -> "LanguageModel":
        """Raises `ModelNotFound` for a model that is not here, `BadInput` for a text encoder."""
        name = name or self.default_model
        return self._models.get(name, lambda: self._load_model(name))

    def _load_model(self, name: str) -> "LanguageModel":
        if name not in [model.name for model in self.models()]:
            if name in [model.name for model in self.encoders()]:
                raise BadInput(f"{name} is a text encoder and writes no text: it serves /v1/embeddings.")
            raise _not_served(name)
        beside = self._beside_its_base(name)
        return beside or api.load_language_model(self._place(name), quantize=self._quantize)

    def _beside_its_base(self, name: str) -> "LanguageModel | None":
        """An adapter in one engine with its base, where that is served too; None for what is loaded by itself."""
        from kun.hub.adapter import AdapterCheckpoint

        here = installed()
        if name not in self._adapters and not any(model.base for model in here if model.name == name):
            return None
        adapter = AdapterCheckpoint.open(api.locate(self._place(name)))
        paths = {model.path.resolve(): model.name for model in here if model.base is None}
        paths[Path(self._model_place).resolve()] = self.default_model
        served = paths.get(adapter.base.path.resolve())
        if served is None or served == name:
            return None
        base = self.language_model(served)
        return base.with_adapter(adapter, name) if base.shares_with(adapter) else None

    def loaded(self) -> "list[LanguageModel]":
        """The language models in memory, one for each engine."""
        return list({id(model.host): model for model in reversed(self._models.all())}.values())

    def encoder(self, name: str | None = None) -> "Encoder":
        """Raises `ModelNotFound` for an encoder that is not here, `BadInput` for a language model."""
        name = name or self.default_encoder
        return self._encoders.get(name, lambda: self._load_encoder(name))

    def _load_encoder(self, name: str) -> "Encoder":
        from kun.models.encoder import Encoder

        if name not in [model.name for model in self.encoders()]:
            if name in [model.name for model in self.models()]:
                raise BadInput(f"{name} is a language model and makes no embeddings: name a text encoder.")
            raise _not_served(name)
        return Encoder.open(self._encoder_place if name == self.default_encoder else name)

    def reward_model(self, name: str | None = None) -> "RewardModel":
        """Raises `ModelNotFound` where it is not served, or none is; `BadInput` for a model of another kind."""
        here = self.default_reward
        if name is not None and name != here:
            if name in [model.name for model in (*self.models(), *self.encoders())]:
                raise BadInput(f"{name} is no reward model and scores nothing: {_scoring(here)}")
            raise ModelNotFound(f"The reward model {name[:100]!r} is not served here: {_scoring(here)}")
        if here is None:
            raise ModelNotFound(f"No reward model is served here: {_scoring(None)}")
        return self._rewards.get(here, self._load_reward)

    def _load_reward(self) -> "RewardModel":
        from kun.alignment.reward_model import RewardModel

        model = api.load(self._reward_place)
        if not isinstance(model, RewardModel):
            raise BadInput(f"{self.default_reward} is no reward model any more: start the server anew.")
        return model

    def knowledge_bases(self) -> list[str]:
        return api.knowledge_bases()

    def knowledge_base(self, name: str) -> KnowledgeBase:
        """Raises `KnowledgeBaseNotFound`, and `BadInput` for what is no name: a path is none here."""
        check_name(name)
        if not Manifest.exists(settings().knowledge / name):
            self._bases.forget(name)  # another process may have deleted it
        return self._bases.get(name, lambda: self._open_base(name))

    def _open_base(self, name: str) -> KnowledgeBase:
        """With the served encoder where it was made with that one; it is loaded when somebody searches."""
        base = api.knowledge_base(name)
        wanted = base.encoder_name
        if wanted not in [encoder.name for encoder in self.encoders()]:
            return base
        return KnowledgeBase(base.path, cast("Encoder", _LaterEncoder(partial(self.encoder, wanted))))

    def create_knowledge_base(self, name: str) -> KnowledgeBase:
        """A new knowledge base. Raises `BadInput` where there is one of this name."""
        check_name(name)
        if name in self.knowledge_bases():
            raise BadInput(f"There is a knowledge base {name} already: choose another name.")
        api.create_knowledge_base(name, encoder=self._encoder_place)
        return self.knowledge_base(name)

    def delete_knowledge_base(self, name: str) -> None:
        """Raises `KnowledgeBaseNotFound`, `Busy`."""
        check_name(name)
        self._bases.forget(name)
        api.delete_knowledge_base(name)

    def names(self) -> list[str]:
        """All that can be named as `model` in a request: models of all kinds, each knowledge base with each model."""
        writers = [model.name for model in self.models()]
        based = [f"{base}@{writer}" for base in self.knowledge_bases() for writer in writers]
        others = [model.name for model in (*self.encoders(), *self.reward_models())]
        return [*writers, *others, *based]

    def warm(self) -> None:
        """Load the default models, so that the first question does not wait for them."""
        for load in (self.encoder, self.language_model):
            try:
                load()
            except KunError as error:
                log.warning("A default model is not ready: %s", error)  # whoever asks for it gets the reason

    def close(self) -> None:
        """Cancel what runs and let go of everything; what is still loading is let go of when it is there."""
        for kind in (self._models, self._bases, self._encoders, self._vectors, self._rewards):
            kind.close()


class _LaterEncoder:
    """An encoder that is loaded when somebody looks at it, so that what a base holds is listed without one."""

    def __init__(self, load: "Callable[[], Encoder]") -> None:
        self._load = load

    def __getattr__(self, name: str) -> object:
        return getattr(self._load(), name)

    def embed_tokens(
        self, texts: Sequence[str], kind: Literal["query", "passage"] | None = None
    ) -> "tuple[NDArray[float32], list[NDArray[float32]]]":
        """Written out, since a check for `TokenEncoder` finds only what a class has (from Python 3.12 on)."""
        return self._load().embed_tokens(texts, kind)


class _Loaded(Generic[Thing]):
    """Things by name, each made once, the `most` newest kept; making one holds up only those who want the same."""

    def __init__(self, end: Callable[[Thing], None], *, most: int | None = None) -> None:
        self._end, self._most = end, most
        self._things: dict[str, Thing] = {}
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._closed = False

    def get(self, name: str, make: Callable[[], Thing]) -> Thing:
        if (thing := self._things.get(name)) is not None:
            return thing
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        try:
            with making:
                if (thing := self._things.get(name)) is None:
                    thing = self._keep(name, make())
                return thing
        finally:
            with self._lock:  # names that nothing is made for are not remembered
                self._making.pop(name, None)

    def _keep(self, name: str, thing: Thing) -> Thing:
        with self._lock:
            kept = None if self._closed else self._things.setdefault(name, thing)
            over = len(self._things) - (self._most or len(self._things))
            gone = [self._things.pop(old) for old in list(self._things)[: max(0, over)]]
        for old_thing in gone:
            self._end(old_thing)
        if kept is not thing:
            self._end(thing)
        if kept is not None:
            return kept
        raise Unavailable("The server is stopping: ask again when it is back.")

    def all(self) -> list[Thing]:
        with self._lock:
            return list(self._things.values())

    def forget(self, name: str) -> None:
        with self._lock:
            thing = self._things.pop(name, None)
        if thing is not None:
            self._end(thing)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            things = list(self._things.values())
            self._things.clear()
        for thing in things:
            self._end(thing)


def _named(model: str) -> tuple[str, str]:
    """The name of a model, and the place to open: a path goes by its last part, a run's checkpoint by the run."""
    is_path = model.endswith(".gguf") or os.sep in model or (os.altsep or os.sep) in model
    if not is_path or not Path(model).expanduser().exists():
        return model, model
    place = Path(model).expanduser().resolve()
    return display_name(place), str(place)


def _not_served(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model {name[:100]!r} is not served here: /v1/models lists those that are.")


def _scoring(here: str | None) -> str:
    """The advice about which model scores."""
    return f"{here} is." if here else "start the server with kun serve --reward NAME_OR_FOLDER."
