import json

import pytest

from model_export.cells import cell_path
from model_export.ledger import digest, read_ledger
from ser_core.errors import BadParameter
from tests.model_export.ledgers import CORPORA, write_experiment


def test_cells_by_experiment_and_what_their_logits_decide(tmp_path):
    write_experiment(tmp_path, "glrf", 0.8)
    write_experiment(tmp_path, "svm", 0.6, with_logits=False)
    ledger = read_ledger(tmp_path)
    assert {name: len(cells) for name, cells in ledger.experiments.items()} == {"glrf": 3, "svm": 3}
    assert ledger.corpora == sorted(CORPORA)
    assert ledger.of("other") == []
    cell = ledger.of("glrf")[0]
    decided = ledger.decisions(cell)
    assert decided is not None
    own = decided.corpus == "mine"
    right = (decided.predicted == decided.reference)[own]
    assert right.mean() == pytest.approx(cell.metrics["corpora"]["mine"]["wa"])
    assert ledger.decisions(ledger.of("svm")[0]) is None


def test_cells_of_two_configs_are_not_averaged(tmp_path):
    write_experiment(tmp_path, "glrf", 0.8, folds=(0, 1))
    write_experiment(tmp_path, "glrf", 0.8, folds=(2,), config_sha256="other")
    with pytest.raises(BadParameter, match="glrf differ in config_sha256"):
        read_ledger(tmp_path)
    write_experiment(tmp_path, "glrf", 0.8, folds=(2,), split_sha256="other")
    with pytest.raises(BadParameter, match="glrf differ in split_sha256"):
        read_ledger(tmp_path)


def test_cells_of_two_manifests_are_not_averaged(tmp_path):
    write_experiment(tmp_path, "glrf", 0.8, folds=(0,))
    write_experiment(tmp_path, "glrf", 0.8, folds=(1,), data_sha256="one")
    assert len(read_ledger(tmp_path).of("glrf")) == 2  # an older cell doesn't tell
    write_experiment(tmp_path, "glrf", 0.8, folds=(2,), data_sha256="two")
    with pytest.raises(BadParameter, match="glrf differ in data_sha256: one, two"):
        read_ledger(tmp_path)


def test_logits_of_another_model_are_refused(tmp_path):
    write_experiment(tmp_path, "glrf", 0.9, folds=(0,))
    write_experiment(tmp_path, "poor", 0.2, folds=(0,))
    paths = [cell_path(tmp_path, name, 1, 0).with_suffix(".npz") for name in ("poor", "glrf")]
    paths[0].replace(paths[1])
    ledger = read_ledger(tmp_path)
    with pytest.raises(BadParameter, match=r"gives WA .* its cell"):
        ledger.decisions(ledger.of("glrf")[0])


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("metrics", {}, "valid dict"),
        ("metrics", {"corpora": {"a": {"ua": 1}}}, r"a\.wa: Field required"),
        ("metrics", {"corpora": []}, "valid dict"),
        ("conditions", {"mulaw": {"a": 3}}, r"mulaw\.a"),
        ("model", {}, "parameters: Field required"),
    ],
)
def test_a_cell_of_another_shape_is_named(tmp_path, part, value, message):
    write_experiment(tmp_path, "glrf", 0.9, folds=(0,))
    path = cell_path(tmp_path, "glrf", 1, 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    with pytest.raises(BadParameter, match=message) as refused:
        read_ledger(tmp_path)
    assert str(path) in str(refused.value)


def test_no_folder_is_an_error_and_no_cell_is_not(tmp_path):
    with pytest.raises(BadParameter, match="does not exist"):
        read_ledger(tmp_path / "none")
    assert read_ledger(tmp_path).experiments == {}


def test_the_digest_is_of_names_and_contents(tmp_path):
    write_experiment(tmp_path / "one", "glrf", 0.9)
    write_experiment(tmp_path / "two", "glrf", 0.9)
    one, two = (sorted((tmp_path / name).rglob("*.json")) for name in ("one", "two"))
    assert digest(one) == digest(two[::-1])
    assert digest(one[1:]) != digest(one)
    two[0].write_text(two[0].read_text() + " ")
    assert digest(one) != digest(two)
