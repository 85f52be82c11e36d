"""The text of the HTML pages of a folder as .jsonl; examples/recipes/words-zh.toml trains on some.

    apt-get download libreoffice-help-zh-cn && dpkg -x libreoffice-help-zh-cn_*.deb help
    python examples/recipes/data/pages.py help runs/help-zh.jsonl

They are read as documents of a knowledge base are: what a page says, without its menus. Pages that say the same are
there once.
"""

import argparse
import json
from pathlib import Path

from kun.errors import KunError
from kun.knowledge.read.encoding import decode_page
from kun.knowledge.read.html import page_text

LEAST = 40
"""Characters of a page that is kept."""


def pages(folder: Path) -> list[str]:
    """The texts, in the order of the files' names; what cannot be read is passed over."""
    found: dict[str, None] = {}
    for path in sorted(path for path in folder.rglob("*.htm*") if path.is_file()):
        try:
            text, _ = page_text(decode_page(path.read_bytes(), path.name), path.name)
        except KunError:
            continue
        if len(text) >= LEAST:
            found[text] = None
    return list(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    texts = pages(given.folder)
    if not texts:
        parser.error(f"{given.folder} has no HTML pages with text: name the folder that they lie in.")
    given.file.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    given.file.write_text("".join(rows), encoding="utf-8")
    print(f"Wrote {len(texts)} pages, {sum(map(len, texts)):,} characters, to {given.file}.")
