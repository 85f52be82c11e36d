"""The script that takes the text out of HTML pages for a recipe."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "recipes" / "data" / "pages.py"


def test_pages_become_rows_of_text_each_once_and_without_their_menus(tmp_path: Path) -> None:
    says = (
        "体温超过三十八度五的时候，要多喝水，多休息，必要时服用退烧药，并且及时去看医生，不要自己乱吃抗生素。"
    )
    page = f"<html><body><nav><a href='/'>首页</a></nav><p>{says}</p></body></html>"
    folder = tmp_path / "help"
    folder.mkdir()
    for name in ("one.html", "two.html"):
        (folder / name).write_text(page, encoding="utf-8")
    other = says.replace("三十八度五", "三十九度")
    (folder / "three.html").write_bytes(f"<meta charset=gb18030><p>{other}</p>".encode("gb18030"))
    (folder / "folder.html").mkdir()
    (folder / "short.html").write_text("<p>短</p>", encoding="utf-8")
    out = tmp_path / "runs" / "help.jsonl"
    ran = subprocess.run([sys.executable, SCRIPT, folder, out], capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [
        {"text": says},
        {"text": other},
    ]
    assert ran.stdout.startswith("Wrote 2 pages")


def test_a_folder_without_pages_is_told_of(tmp_path: Path) -> None:
    line = [sys.executable, SCRIPT, tmp_path / "none", tmp_path / "out.jsonl"]
    ran = subprocess.run(line, check=False, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "has no HTML pages with text" in ran.stderr
    assert not (tmp_path / "out.jsonl").exists()
