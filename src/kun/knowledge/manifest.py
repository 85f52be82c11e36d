"""`kb.json`: what makes a folder a knowledge base, and which encoder its vectors are from."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kun.errors import DamagedFile, KnowledgeBaseNotFound, NoSpace

_FORMAT = 1


class _Encoder(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    identity: str
    dimensions: int = Field(ge=1, le=65_536)
    max_tokens: int = Field(ge=8)


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: int = Field(ge=1, le=_FORMAT)
    name: str
    encoder: _Encoder
    generation: int = Field(ge=1)


@dataclass(frozen=True)
class Manifest:
    """The encoder of a knowledge base, and which generation of its passages is in force."""

    name: str
    encoder: str
    identity: str
    dimensions: int
    max_tokens: int
    generation: int = 1

    @property
    def passages_table(self) -> str:
        return f"passages-{self.generation}"

    def after(self, other: "Manifest") -> "Manifest":
        """This one, as the generation that follows `other`."""
        return replace(self, generation=other.generation + 1)

    @staticmethod
    def file(folder: Path) -> Path:
        return folder / "kb.json"

    @classmethod
    def exists(cls, folder: Path) -> bool:
        return cls.file(folder).is_file()

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises `KnowledgeBaseNotFound` where there is none, `DamagedFile` where it cannot be understood."""
        try:
            parsed = _File.model_validate_json(cls.file(folder).read_bytes())
        except FileNotFoundError as error:
            raise KnowledgeBaseNotFound(f"There is no knowledge base in {folder}.") from error
        except (OSError, ValidationError) as error:
            raise DamagedFile(
                f"{cls.file(folder)} cannot be read: remove the knowledge base and add its documents again."
            ) from error
        encoder = parsed.encoder
        return cls(
            parsed.name,
            encoder.name,
            encoder.identity,
            encoder.dimensions,
            encoder.max_tokens,
            parsed.generation,
        )

    def write(self, folder: Path) -> None:
        """Replace the file in one step. Raises `NoSpace` when the disk is full."""
        encoder = _Encoder(
            name=self.encoder,
            identity=self.identity,
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
        )
        body = _File(format=_FORMAT, name=self.name, encoder=encoder, generation=self.generation)
        write_atomically(self.file(folder), body.model_dump_json(indent=2).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file, fsync, rename. Raises `NoSpace` when the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise NoSpace(f"{path} could not be written ({error.strerror}): free some space.") from error
