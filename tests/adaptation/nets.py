"""A small random LLaMA-type network, and what its tests share."""

import torch

from kun.adaptation.quantize import quantize
from kun.blocks.cache import CacheStep, PagedCache
from kun.families.llama.config import LlamaConfig
from kun.families.llama.llama import Llama

CONFIG = LlamaConfig(
    vocab_size=300, d_model=96, n_layers=3, n_heads=6, n_kv_heads=2, d_head=16, d_ff=200, max_positions=512
)
PAGE = 8


def float_net(config: LlamaConfig = CONFIG) -> Llama:
    torch.manual_seed(5)
    net = Llama(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
    return net


def quantized_net(precision: str = "int4", config: LlamaConfig = CONFIG) -> Llama:
    net = quantize(float_net(config), precision)  # type: ignore[arg-type]
    assert isinstance(net, Llama)
    return net


def new_cache(
    config: LlamaConfig = CONFIG, n_pages: int = 128, dtype: torch.dtype = torch.float32
) -> PagedCache:
    return PagedCache(config.n_layers, config.n_kv_heads, config.d_head, n_pages, PAGE, dtype=dtype)


def tables(lengths: list[int]) -> list[list[int]]:
    """Pages for rows of these lengths, every row its own."""
    free = iter(range(10_000))
    return [[next(free) for _ in range(-(-length // PAGE))] for length in lengths]


def prompt(length: int, seed: int = 0) -> torch.Tensor:
    """Ids [1, length]."""
    return torch.randint(0, CONFIG.vocab_size, (1, length), generator=torch.Generator().manual_seed(seed))


def run(
    net: torch.nn.Module, ids: torch.Tensor, step: CacheStep, at: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one packed step."""
    with torch.no_grad():
        logits: torch.Tensor = net(ids, positions=step.positions, cache=step, logits_at=at).logits[0]
    return logits
