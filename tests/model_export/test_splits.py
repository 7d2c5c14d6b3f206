import pytest

from model_export.corpora import read_manifest
from model_export.splits import SUBSETS, read_split
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_corpus, write_split


def test_speakers_do_not_mix(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)
    split = read_split(write_split(tmp_path))
    chosen = [{r.speaker for r in split.select(recordings, subset)} for subset in SUBSETS]
    assert chosen == [{"s1", "s2"}, {"s3"}, {"s4"}]


def test_a_speaker_in_two_subsets_is_refused(tmp_path):
    split = write_split(tmp_path)
    split.write_text(split.read_text().replace('"s4"', '"s1"'))
    with pytest.raises(BadParameter, match=r"\('toy', 's1'\).*stand in train and in test"):
        read_split(split)


def test_a_missing_subset_or_file_is_refused(tmp_path):
    split = write_split(tmp_path)
    split.write_text('{"train": {}}')
    with pytest.raises(BadParameter, match="lacks a subset"):
        read_split(split)
    with pytest.raises(BadParameter, match="does not exist"):
        read_split(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "[]", '{"train": ["s1"]}', '{"train": {"toy": "s1"}}', "{"])
def test_a_file_of_another_shape_is_refused(tmp_path, text):
    split = tmp_path / "split.json"
    split.write_text(text)
    with pytest.raises(BadParameter, match=r"split\.json"):
        read_split(split)
