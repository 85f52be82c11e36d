"""Bibliographies, tables of contents and menus are distinguished from what says something."""

import pytest

from kun.knowledge.apparatus import is_apparatus

_WORKS = """- Vale et al., "Boats of the north", 2019, arXiv:1901.00001.
- Orme and Vale, "Sails", Proceedings of the Shipyard, 2020, pp. 3-9.
- Lund, "Keels and tides", 2021, https://example.org/keels."""


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        (_WORKS, ""),
        (
            "[1] 李明. 造船史[M]. 北京: 出版社, 2019.\n[2] 王芳. 龙骨[J]. 船舶, 2020.\n[3] 赵强. 帆[J]. 航海, 2021.",
            "",
        ),
        ("Anything at all.", "Boats > References"),
        ("任何内容。", "造船 > 参考文献"),
        ("任何内容。", "七、参考资料："),
        ("1 Hulls ........ 3\n2 Sails ........ 17\n3 Keels ........ 240", ""),
        ("第一章 船体……3\n第二章 帆……17\n第三章 龙骨……240", ""),
        ("- [Hulls](hulls.md)\n- [Sails](sails.md)\n- [Keels](keels.md)", ""),
        ("Home | Products | Prices | Contact | Log in", ""),
        ("首页 · 产品 · 价格 · 联系我们 · 登录", ""),
        ("![A keel](keel.svg)", "Keels"),
    ],
)
def test_lists_of_works_of_contents_and_of_links_are_apparatus(text: str, heading: str) -> None:
    assert is_apparatus(text, heading)


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("The keel was laid in 2019, and the boat left the yard in 2021.", "Boats"),
        (
            "sku: A-1; name: lamp; price: 17.50\nsku: A-2; name: desk; price: 99.00\nsku: A-3; price: 4.00",
            "Prices",
        ),
        ("| a | b | c | d | e |\n|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 5 |", "Options"),
        ("- Bring a coat.\n- Bring a lamp.\n- See [the map](map.md) for the way.", "Travel"),
        ("The sources of the river lie in the north.", "The river's sources and mouth"),
        ("See https://example.org for the form of 2024.", "Forms"),
        ("Monday 8-12, 13-17\nTuesday 8-12\nFriday 8-16", "Opening hours"),
        ("参考价格为每台三千元。", "参考价格"),
    ],
)
def test_what_says_something_is_not(text: str, heading: str) -> None:
    assert not is_apparatus(text, heading)
