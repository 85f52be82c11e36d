"""Whoever writes for a command: a model by its name here, or MODEL@URL of an OpenAI-compatible endpoint."""

from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output

if TYPE_CHECKING:
    from kun.models.writers import Writer

PARALLEL_OPTION = typer.Option(4, min=1, max=256, help="Requests that an endpoint is asked at once.")
TIMEOUT_OPTION = typer.Option(300.0, min=1, help="Seconds that one reply of an endpoint may take.")


def open_writer(name: str, *, quantize: str, parallel: int, timeout: float, quiet: bool) -> "Writer":
    """The writer of that name. Raises what loading or asking raises, and `BadInput` for what writes no text."""
    from kun.models.endpoint import Endpoint, is_endpoint
    from kun.models.language_model import as_language_model
    from kun.models.writers import LocalWriter

    if is_endpoint(name):
        return Endpoint.named(name, parallel=parallel, timeout=timeout)
    with output.progress(quiet=quiet, in_bytes=True) as tell:
        model = api.load(name, quantize=None if quantize == "none" else quantize, progress=tell)
    return LocalWriter(as_language_model(model, name), quantize)
