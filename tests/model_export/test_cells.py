from dataclasses import replace

import numpy as np
import pytest

from model_export.cells import Cell, SegmentLogits, load_logits, read_cells, write_cell
from ser_core.errors import BadParameter

CELL = Cell(
    experiment="peer",
    seed=1,
    fold=0,
    n_folds=5,
    config_sha256="c",
    split_sha256="s",
    code="abc",
    date="2026-01-02",
    duration_s=1.5,
    model={"parameters": 10, "macs": 20, "input": "MFCC"},
    metrics={"corpora": {"a": {"ua": 0.5}}, "all": {"ua": 0.5}},
)
LOGITS = SegmentLogits(
    logits=np.array([[0.5, -1], [2, 1], [0, 0]], np.float16),
    recording=np.array([0, 0, 1], np.int32),
    paths=np.array(["a/1.flac", "a/2.flac"]),
    reference=np.array(["sad", "happy"]),
    corpus=np.array(["a", "a"]),
    speaker=np.array(["x", "y"]),
    labels=np.array(["happy", "sad"]),
)


def test_cells_come_back_in_order(tmp_path):
    for seed, fold in ((2, 0), (1, 10), (1, 2)):
        write_cell(tmp_path, replace(CELL, seed=seed, fold=fold))
    write_cell(tmp_path, replace(CELL, experiment="other"))
    assert [(c.seed, c.fold) for c in read_cells(tmp_path, "peer")] == [(1, 2), (1, 10), (2, 0)]
    assert len(read_cells(tmp_path)) == 4
    assert read_cells(tmp_path, "other") == [replace(CELL, experiment="other")]
    assert read_cells(tmp_path / "none") == []


def test_logits_come_back_and_go_with_their_cell(tmp_path):
    write_cell(tmp_path, CELL, LOGITS)
    read = load_logits(tmp_path, CELL)
    assert read is not None
    assert read.logits.dtype == np.float16
    assert read.recording.dtype == np.int32
    for name in ("logits", "recording", "paths", "reference", "corpus", "speaker", "labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(LOGITS, name))
    write_cell(tmp_path, CELL)
    assert load_logits(tmp_path, CELL) is None


def test_logits_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        replace(LOGITS, recording=np.array([0, 0, 2], np.int32))
    with pytest.raises(ValueError, match="belong together"):
        replace(LOGITS, labels=np.array(["happy"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a result"),
        ("[]", "is not a result"),
        ('{"experiment": "peer"}', "is not a result"),
    ],
)
def test_what_is_no_cell_is_refused(tmp_path, content, message):
    path = write_cell(tmp_path, CELL)
    path.write_text(content)
    with pytest.raises(BadParameter, match=message) as refused:
        read_cells(tmp_path)
    assert str(path) in str(refused.value)


def test_a_cell_of_other_types_or_in_the_wrong_place_is_refused(tmp_path):
    write_cell(tmp_path, replace(CELL, metrics="none"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadParameter, match="metrics is 'none'"):
        read_cells(tmp_path)
    path = write_cell(tmp_path, CELL)
    path.rename(path.with_name("seed-1-fold-3.json"))
    with pytest.raises(BadParameter, match="fold 0"):
        read_cells(tmp_path)


def test_logits_that_cannot_be_read_are_refused(tmp_path):
    path = write_cell(tmp_path, CELL, LOGITS).with_suffix(".npz")
    whole = path.read_bytes()
    turned = bytes(255 - byte for byte in whole[60:160])
    for content in (b"", whole[:100], whole[:60] + turned + whole[160:]):
        path.write_bytes(content)
        with pytest.raises(BadParameter, match="does not hold logits"):
            load_logits(tmp_path, CELL)
