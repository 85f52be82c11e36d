"""The page of words as vectors: what is asked of it by signs."""

import pytest

from kun.errors import BadInput
from kun.server.web.vectors import _terms


@pytest.mark.parametrize(
    "text",
    ["king − man + woman", "king + woman - man", "king−man+woman", "king -man +woman", "woman + king − man"],
)
def test_an_analogy_is_read_by_its_signs(text: str) -> None:
    b, a, c = _terms(text)
    assert a == "man"
    assert {b, c} == {"king", "woman"}


def test_a_hyphen_within_a_word_is_no_sign() -> None:
    assert _terms("well-known − man + woman") == ("well-known", "man", "woman")


@pytest.mark.parametrize(
    "text",
    ["king man woman", "king + man + woman", "king − man − woman", "king − man", "− king", "", "king −"],
)
def test_another_sum_is_no_analogy(text: str) -> None:
    with pytest.raises(BadInput, match="king − man"):
        _terms(text)
