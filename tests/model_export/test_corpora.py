import numpy as np
import pytest
import soundfile

from model_export.corpora import describe, load, read, read_manifest
from ser_core.errors import BadParameter, InputError
from tests.model_export.corpus import LABELS, write_corpus


def test_reads_what_the_manifest_lists(tmp_path):
    manifest = write_corpus(tmp_path)
    recordings = read_manifest(manifest, tmp_path, LABELS)
    assert len(recordings) == 4 * 5 * 2
    assert recordings[0].speaker_key == ("toy", "s1")
    assert recordings[0].duration_s == 1.2
    assert describe(recordings)["toy"] == {
        "speakers": 4,
        "hours": round(20 * 4.2 / 3600, 3),
        "labels": dict.fromkeys(LABELS, 8),
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("toy-s1-angry-0.flac", "gone.flac", ":2: .*gone.flac does not exist"),
        ("angry,angry,1.2", "angry,furious,1.2", ":2: unknown label 'furious'"),
        ("angry,angry,1.2", "angry,angry ,1.2", ":2: label has blanks around it"),
        ("angry,angry,1.2", "angry,angry,nan", ":2: duration_s='nan'"),
        ("angry,angry,1.2", "angry,angry", ":2: duration_s=None"),
        ("speaker,gender", "who,gender", "lacks the columns speaker"),
        ("toy-s1-angry-0", "./toy-s1-angry-1", ":3: .*s1-angry-1.flac stands there twice, .*:2"),
    ],
)
def test_malformed_rows_are_refused_by_line(tmp_path, old, new, said):
    manifest = write_corpus(tmp_path)
    manifest.write_text(manifest.read_text().replace(old, new, 1))
    with pytest.raises(BadParameter, match=said):
        read_manifest(manifest, tmp_path, LABELS)


def test_missing_or_empty_manifest(tmp_path):
    with pytest.raises(BadParameter, match="does not exist"):
        read_manifest(tmp_path / "no.csv", tmp_path, LABELS)
    manifest = write_corpus(tmp_path)
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    with pytest.raises(BadParameter, match="no rows"):
        read_manifest(manifest, tmp_path, LABELS)


def test_loads_mono_at_the_rate_asked_for(tmp_path):
    path = tmp_path / "stereo.wav"
    stereo = np.stack([np.full(4410, 0.5), np.full(4410, -0.25)], axis=1)
    soundfile.write(path, stereo, 44_100, subtype="FLOAT")
    samples, rate_hz = read(path)
    assert rate_hz == 44_100
    assert samples == pytest.approx(0.125)
    assert load(path, 16_000).shape == (1600,)


def test_audio_is_heard_as_the_service_hears_it(tmp_path):
    path = tmp_path / "odd.wav"
    samples = np.array([0.5, 7.0, -7.0, np.nan, np.inf] * 400, np.float32)
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    heard, _ = read(path)
    assert heard[:5].tolist() == [0.5, 1.0, -1.0, 0.0, 0.0]


def test_a_manifest_from_a_spreadsheet_may_begin_with_a_byte_order_mark(tmp_path):
    manifest = write_corpus(tmp_path)
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert len(read_manifest(manifest, tmp_path, LABELS)) == 40


def test_audio_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "notes.wav"
    path.write_bytes(b"these are words, not samples" * 10)
    with pytest.raises(InputError, match=r"notes\.wav"):
        read(path)
