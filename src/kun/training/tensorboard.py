"""A run's metrics as TensorBoard's event files, for those who look at many runs at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kun.errors import BadRecipe
from kun.training.loop import Watcher


def check_installed() -> None:
    """Raise `BadRecipe` where the package that writes event files is missing."""
    if find_spec("tensorboard") is None:
        raise BadRecipe(
            "train.log names tensorboard, which is not installed: pip install 'kun[tensorboard]', or leave it out."
        )


@contextmanager
def event_files(folder: Path, step: int) -> Iterator[Watcher]:
    """Within it each metric of a step goes into event files in `folder`; those after `step` there are forgotten."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(line: Mapping[str, float]) -> None:
            for name, value in line.items():
                if name != "step":
                    writer.add_scalar(name.replace("eval_", "eval/", 1), value, line["step"])

        yield write
