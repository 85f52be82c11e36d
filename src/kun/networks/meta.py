"""Networks that are built for weights that come from elsewhere."""

from collections.abc import Callable, Mapping, Sequence

from torch.overrides import TorchFunctionMode


class uninitialized(TorchFunctionMode):
    """Within it the functions of `torch.nn.init` leave their tensors as they are."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given.get("tensor", args[0] if args else None)
        return func(*args, **given)
