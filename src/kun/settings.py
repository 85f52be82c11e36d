"""The only reader of the environment. Every setting is `KUN_` and its name: `KUN_HOME`, `KUN_API_KEYS`, …"""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, ValidationError
from pydantic.functional_validators import field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kun.errors import BadInput

DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
"""The default language model where the larger one is too slow or too large; `models/chosen.py` decides."""
LARGER_MODEL = "qwen2.5-coder-1.5b-instruct"
DEFAULT_ENCODER = "multilingual-e5-small"


class Settings(BaseSettings):
    """What the environment decides. Sizes are bytes, times seconds, unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="KUN_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("kun"))
    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    endpoint_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """Keys for endpoints that are asked: HOST=KEY goes to that host, a KEY alone to every one."""
    offline: bool = False
    native: bool = True
    """Build and use the compiled kernels where there is a C compiler."""
    threads: int = Field(default=0, ge=0)
    """Threads for tensor work; 0 leaves it to torch."""

    database: str = ""
    """The URL of a PostgreSQL for conversations and feedback; without one they are in `kun.db` under `home`."""

    reader_python: Path | None = None
    """A Python interpreter with the reference readers that `kun export --verify` asks, where this one lacks them."""

    max_file_bytes: int = 256 * 2**20
    max_request_bytes: int = 64 * 2**20
    max_queue: int = Field(default=128, ge=1)
    max_batch: int = Field(default=16, ge=1)
    max_kv_cache_bytes: int = 2 * 2**30

    @field_validator("api_keys", "endpoint_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return (
            tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value
        )

    @field_validator("home", mode="after")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def knowledge(self) -> Path:
        return self.home / "knowledge"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def database_place(self) -> Path | str:
        """The file, or the URL, of what people said."""
        return self.database or self.home / "kun.db"


@cache
def settings() -> Settings:
    """The settings of this process, read once; `settings.cache_clear()` reads the environment again."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "KUN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise BadInput(f"{name} in the environment cannot be used: {first['msg']}.") from error


@dataclass(frozen=True)
class Launch:
    """What torchrun tells a process: which of how many it is, and which on its machine."""

    rank: int
    world: int
    local_rank: int


def launch() -> Launch | None:
    """How torchrun started this process; None where it did not."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in (*names, "MASTER_ADDR")):
        return None
    return Launch(*(int(os.environ[name]) for name in names))


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory, and of those that can be had now, as far as the system tells; a container's bounds count.

    What files in the page cache take can be had.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None, None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free: int | None = None
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = (line for line in lines if line.startswith("MemAvailable"))
        free = next((int(line.split()[1]) * 1024 for line in available), None)  # old kernels have none
    for bound, used, cached in _CGROUPS:
        with suppress(OSError, ValueError):  # "max" is no number
            most = int(Path(bound).read_text("ascii"))
            total = min(total, most)
            lines = Path(used).with_name("memory.stat").read_text("ascii").splitlines()
            taken = int(Path(used).read_text("ascii"))
            taken -= sum(int(line.split()[1]) for line in lines if line.split()[0] == cached)
            free = max(0, min(most - taken, most if free is None else free))
    return total, free


_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Of a container: its bound, what it uses, and the name of what can be had back of that."""
