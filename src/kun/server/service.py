"""What is served: language models, the encoder and the knowledge bases, each loaded once, when it is first asked for."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kun import api
from kun.errors import BadInput, ModelNotFound
from kun.hub.store import installed
from kun.knowledge.base import check_name
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL

if TYPE_CHECKING:
    from kun.generation import LanguageModel
    from kun.knowledge import KnowledgeBase
    from kun.knowledge.encoder import Encoder


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be asked for by `name`."""

    name: str
    kind: Literal["decoder", "encoder"]


class Service:
    """Models and knowledge bases by name, for the API and the web app. Safe for several threads."""

    def __init__(
        self, model: str | None = None, encoder: str | None = None, quantize: str | None = "int4"
    ) -> None:
        self.default_model = model or DEFAULT_MODEL
        self.default_encoder = encoder or DEFAULT_ENCODER
        self._quantize = quantize
        self._models: dict[str, LanguageModel] = {}
        self._encoders: dict[str, Encoder] = {}
        self._bases: dict[str, KnowledgeBase] = {}
        self._lock = threading.RLock()

    def models(self) -> list[ModelInfo]:
        """The language models that are here, the default one first."""
        names = [model.name for model in installed() if model.kind == "decoder"]
        return [ModelInfo(name, "decoder") for name in dict.fromkeys([self.default_model, *names])]

    def encoders(self) -> list[ModelInfo]:
        names = [model.name for model in installed() if model.kind == "encoder"]
        return [ModelInfo(name, "encoder") for name in dict.fromkeys([self.default_encoder, *names])]

    def language_model(self, name: str | None = None) -> "LanguageModel":
        """Raises `ModelNotFound` for a model that is not here; a request from outside never pulls one."""
        name = name or self.default_model
        if name not in [model.name for model in self.models()]:
            raise ModelNotFound(
                f"The model {name[:100]!r} is not served here: /v1/models lists those that are."
            )
        with self._lock:
            if name not in self._models:
                self._models[name] = api.load_language_model(name, quantize=self._quantize)
            return self._models[name]

    def loaded(self) -> "list[LanguageModel]":
        """The language models in memory."""
        return list(self._models.values())

    def encoder(self, name: str | None = None) -> "Encoder":
        """Raises `ModelNotFound` for an encoder that is not here."""
        from kun.knowledge.encoder import Encoder

        name = name or self.default_encoder
        if name not in [model.name for model in self.encoders()]:
            raise ModelNotFound(
                f"The encoder {name[:100]!r} is not served here: /v1/models lists those that are."
            )
        with self._lock:
            if name not in self._encoders:
                self._encoders[name] = Encoder.open(name)
            return self._encoders[name]

    def knowledge_bases(self) -> list[str]:
        return api.knowledge_bases()

    def knowledge_base(self, name: str) -> "KnowledgeBase":
        """Raises `KnowledgeBaseNotFound`, and `BadInput` for what is no name: a path is none here."""
        check_name(name)
        with self._lock:
            if name not in self._bases:
                self._bases[name] = api.knowledge_base(name)
            return self._bases[name]

    def create_knowledge_base(self, name: str) -> "KnowledgeBase":
        """A new knowledge base. Raises `BadInput` where there is one of this name."""
        check_name(name)
        if name in self.knowledge_bases():
            raise BadInput(f"There is a knowledge base {name} already: choose another name.")
        return api.create_knowledge_base(name, encoder=self.default_encoder)

    def delete_knowledge_base(self, name: str) -> None:
        check_name(name)
        with self._lock:
            base = self._bases.pop(name, None)
            if base is not None:
                base.close()
            api.delete_knowledge_base(name)

    def warm(self) -> None:
        """Load the default models, so that the first question does not wait for them."""
        self.language_model()
        self.encoder()

    def close(self) -> None:
        """Cancel what runs and let go of everything."""
        with self._lock:
            for model in self._models.values():
                model.close()
            for base in self._bases.values():
                base.close()
