"""Networks that were saved without the layer that scores words, as the reference's LlamaModel is."""

from collections.abc import Container, Mapping

from torch import Tensor, nn

from kun.errors import UnsupportedFormat


class MissingHead(nn.Module):
    """The place of a head that is not there: whoever asks for words gets `UnsupportedFormat`."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture = architecture

    def forward(self, states: Tensor) -> Tensor:
        raise UnsupportedFormat(self.reason)

    @property
    def reason(self) -> str:
        return (
            f"This checkpoint is a {self.architecture}: it was saved without the layer that scores words. It gives "
            f"states and can be trained to classify, but it writes nothing: for that take the checkpoint with its head."
        )


def leave_out_head(net: nn.Module, config: Mapping[str, object], state: Container[str]) -> None:
    """Take the head of `net` out where config.json says that its class has none, and `state` holds none."""
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        head = getattr(net, "lm_head", None)
        if isinstance(head, nn.Linear) and "lm_head.weight" not in state:
            net.lm_head = MissingHead(architecture)


def missing_head(net: nn.Module) -> MissingHead | None:
    """What stands in the place of a head that is not there; None where it is."""
    head = getattr(net, "lm_head", None)
    return head if isinstance(head, MissingHead) else None
