"""Published sizes have the published number of parameters."""

from typing import Any

import pytest
import torch

from kun.families import records

PUBLISHED = {
    "gpt": {
        # 117M in later literature; the paper itself states none
        "gpt": (116_534_784, 117e6),
        # the paper says 117M, 345M, 762M and 1542M, which the weights that OpenAI published are not
        "gpt2": (124_439_808, 124e6),
        "gpt2-medium": (354_823_168, 355e6),
        "gpt2-large": (774_030_080, 774e6),
        "gpt2-xl": (1_557_611_200, 1.5e9),
        # arXiv:2005.14165, table 2.1
        "gpt3-125m": (125_198_592, 125e6),
        "gpt3-350m": (355_798_016, 350e6),
        "gpt3-760m": (760_189_440, 760e6),
        "gpt3-1.3b": (1_315_575_808, 1.3e9),
        "gpt3-2.7b": (2_651_307_520, 2.7e9),
        "gpt3-6.7b": (6_658_011_136, 6.7e9),
        "gpt3-13b": (12_852_771_840, 13.0e9),
        "gpt3-175b": (174_600_720_384, 175.0e9),
    },
    # arXiv:2211.05100, table 3
    "bloom": {
        "bloom-560m": (559_214_592, 559e6),
        "bloom-1.1b": (1_065_314_304, 1065e6),
        "bloom-1.7b": (1_722_408_960, 1722e6),
        "bloom-3b": (3_002_557_440, 3003e6),
        "bloom-7.1b": (7_069_016_064, 7069e6),
        "bloom": (176_247_271_424, 176247e6),
    },
    "chatglm": {"chatglm-6b": (6_173_286_400, 6.2e9)},
    "glm": {
        "chatglm2-6b": (6_243_584_000, 6.2e9),
        "chatglm3-6b": (6_243_584_000, 6.2e9),
        "glm-4-9b": (9_399_951_360, 9.4e9),
        "glm-4-9b-chat": (9_399_951_360, 9.4e9),
    },
    "llama": {
        # arXiv:2302.13971, table 2
        "llama-7b": (6_738_415_616, 6.7e9),
        "llama-13b": (13_015_864_320, 13.0e9),
        "llama-33b": (32_528_943_616, 32.5e9),
        "llama-65b": (65_285_660_672, 65.2e9),
        "llama-2-7b": (6_738_415_616, 7e9),
        "llama-2-13b": (13_015_864_320, 13e9),
        "llama-2-70b": (68_976_648_192, 70e9),
        "llama-3-8b": (8_030_261_248, 8e9),
        "llama-3-70b": (70_553_706_496, 70e9),
        "llama-3.1-8b": (8_030_261_248, 8e9),
        "llama-3.1-70b": (70_553_706_496, 70e9),
        "llama-3.1-405b": (405_853_388_800, 405e9),
        "llama-3.2-1b": (1_235_814_400, 1.23e9),
        "llama-3.2-3b": (3_212_749_824, 3.21e9),
        "smollm2-135m": (134_515_008, 135e6),
        "smollm2-360m": (361_821_120, 360e6),
        "mistral-7b-v0.1": (7_241_732_096, 7.24e9),
        "qwen2.5-0.5b": (494_032_768, 0.49e9),
        "qwen2.5-1.5b": (1_543_714_304, 1.54e9),
        "qwen2.5-7b": (7_615_616_512, 7.61e9),
        # arXiv:2505.09388
        "qwen3-0.6b": (596_049_920, 0.6e9),
        "qwen3-1.7b": (1_720_574_976, 1.7e9),
        "qwen3-4b": (4_022_468_096, 4.0e9),
        "qwen3-8b": (8_190_735_360, 8.2e9),
        "qwen3-14b": (14_768_307_200, 14.8e9),
        "qwen3-32b": (32_762_123_264, 32.8e9),
        "ernie-4.5-0.3b": (360_748_032, 0.36e9),
    },
}
"""Family -> preset -> parameters, exactly, and as the paper or its authors round them."""
FAMILIES = {family.name: family for family in records()}


@pytest.mark.parametrize("family", PUBLISHED)
def test_every_preset_is_listed_here(family: str) -> None:
    assert FAMILIES[family].presets.keys() == PUBLISHED[family].keys()


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in PUBLISHED for name in PUBLISHED[family]]
)
def test_a_preset_has_the_published_number_of_parameters(family: str, name: str) -> None:
    config: Any = FAMILIES[family].presets[name]
    with torch.device("meta"):
        net = FAMILIES[family].network(config)
    exact, published = PUBLISHED[family][name]
    assert sum(parameter.numel() for parameter in net.parameters()) == exact
    assert exact == pytest.approx(published, rel=0.04)
    assert type(config).from_hf(config.to_hf()) == config
