"""What lies at a path decides which kind of ready model it becomes, wherever that kind is written."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from tiny_masked import write

import kun
from kun.errors import BadInput, UnsupportedFormat
from kun.models import kinds
from kun.models.batching import batches
from kun.models.classifier import Classifier
from kun.models.encoder import Encoder
from kun.models.masked_language_model import MaskedLanguageModel
from kun.models.question_answerer import QuestionAnswerer
from kun.models.ready import ReadyModel
from kun.models.task_model import TaskModel

STRANGE = """
from pathlib import Path

from kun.models.kinds import Candidate, ModelKind


class Vectors:
    def __init__(self, name, rows):
        self.name, self.rows = name, rows

    @classmethod
    def open(cls, candidate, *, quantize=None, dtype=None, device=None):
        path = candidate.path
        lines = (path / "vectors.txt" if path.is_dir() else path).read_text().splitlines()
        return cls(path.stem, {word: [float(x) for x in rest] for word, *rest in map(str.split, lines)})

    def save(self, folder):
        Path(folder).mkdir()
        lines = [" ".join([word, *map(str, row)]) for word, row in self.rows.items()]
        (Path(folder) / "vectors.txt").write_text("\\n".join(lines))
        return Path(folder)


def is_mine(candidate: Candidate) -> bool:
    return candidate.path.suffix == ".vectors" or (candidate.path / "vectors.txt").is_file()


KIND = ModelKind("vectors", "strange_package:Vectors.open", is_mine)
BROKEN = "no kind"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package whose entry point is the named object."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "strange_package.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(name: str) -> None:
        entry = EntryPoint("vectors", f"strange_package:{name}", kinds.GROUP)
        monkeypatch.setattr(kinds, "entry_points", lambda group: [entry] if group == kinds.GROUP else [])

    yield install
    sys.modules.pop("strange_package", None)


def test_a_kind_of_another_package_is_loaded_and_saved_with_no_edit_of_kun(
    installed: Any, tmp_path: Path
) -> None:
    installed("KIND")
    file = tmp_path / "words.vectors"
    file.write_text("king 1.0 2.0\nqueen 1.0 3.0")
    model: Any = kun.load(str(file))
    assert isinstance(model, ReadyModel)
    assert model.name == "words"
    folder = kun.save(model, tmp_path / "saved")
    again: Any = kun.load(folder)
    assert again.rows == {"king": [1.0, 2.0], "queen": [1.0, 3.0]}


def test_an_entry_point_that_is_no_kind_is_named(installed: Any, tmp_path: Path) -> None:
    installed("BROKEN")
    (tmp_path / "vectors.txt").write_text("king 1.0")
    with pytest.raises(UnsupportedFormat, match=r"entry point vectors of kun\.models is no ModelKind"):
        kun.load(tmp_path)


def test_what_no_kind_recognizes_keeps_its_own_fault(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(BadInput, match=r"notes\.txt is no model: name a folder"):
        kun.load(tmp_path / "notes.txt")
    with pytest.raises(UnsupportedFormat, match="is no checkpoint"):
        kun.load(tmp_path)


@pytest.mark.parametrize(
    ("class_name", "kind"),
    [
        ("BertForMaskedLM", MaskedLanguageModel),
        ("BertForPreTraining", MaskedLanguageModel),
        ("BertForSequenceClassification", Classifier),
        ("BertForQuestionAnswering", QuestionAnswerer),
        ("BertForTokenClassification", TaskModel),
        ("BertModel", Encoder),
    ],
)
def test_the_head_that_an_encoder_was_saved_with_decides_its_class(
    class_name: str, kind: type, tmp_path: Path
) -> None:
    model: Any = kun.load(write(tmp_path, class_name))
    assert type(model) is kind
    assert isinstance(model, ReadyModel)
    assert model.family.name == "bert"
    assert model.config.d_model == 32
    assert model.checkpoint.path == tmp_path
    assert (model.name, model.device.type) == (tmp_path.name, "cpu")
    assert model.tokenizer.get_vocab_size() == model.config.vocab_size
    assert type(kun.load(kun.save(model, tmp_path / "saved"))) is kind


def test_a_batch_holds_rows_of_like_length_within_its_tokens() -> None:
    lengths = [5, 1, 9, 5, 30, 2]
    made = list(batches(lengths, 12))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    assert made == [[4], [2], [0, 3, 5], [1]]
    assert list(batches([], 12)) == []
