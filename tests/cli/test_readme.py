"""The Python of both READMEs, run as it is written, on tiny models under the names that it uses."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_python_of_the_readme_runs(
    page: str, home: Path, docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(docs.parent)
    exec(compile(source, page, "exec"), {})
    assert capsys.readouterr().out.strip()
    assert (home / "knowledge" / "notes").is_dir()
