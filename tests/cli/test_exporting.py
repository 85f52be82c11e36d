"""`kun export` on the command line."""

import json
from pathlib import Path

from command_line import ENGLISH_ONLY, Kun

from kun.hub.opening import open_checkpoint


def test_a_model_is_exported_in_both_formats(kun: Kun, tmp_path: Path) -> None:
    ran = kun("export", ENGLISH_ONLY, tmp_path / "hf", "--dtype", "bf16", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert (said["format"], said["dtype"], said["fidelity"]) == ("hf", "BF16", None)
    assert open_checkpoint(Path(said["path"])).chat_template is not None
    ran = kun("export", ENGLISH_ONLY, tmp_path / "gguf", "--format", "gguf", "--dtype", "Q8_0")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(str(tmp_path / "gguf" / f"{ENGLISH_ONLY}-Q8_0.gguf"))


def test_an_unknown_element_type_is_answered_with_those_there_are(kun: Kun, tmp_path: Path) -> None:
    ran = kun("export", ENGLISH_ONLY, tmp_path / "out", "--dtype", "Q4_0")
    assert ran.code == 2
    assert "F32, BF16, F16" in ran.err
    assert not (tmp_path / "out").exists()
