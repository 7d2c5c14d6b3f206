import numpy as np
import soundfile

from model_export.corpora import read_manifest
from model_export.synthetic_corpus import RATE_HZ, voice, write_corpus
from ser_core.labels import LABELS


def test_the_manifest_reads_as_any_other(tmp_path):
    manifest = write_corpus(tmp_path / "data", n_speakers=2, takes_s=(0.8, 1.0, 1.2))
    recordings = read_manifest(manifest, tmp_path / "data", LABELS)
    assert len(recordings) == 2 * len(LABELS) * 3
    assert {recording.corpus for recording in recordings} == {"synthetic"}
    assert len({recording.speaker for recording in recordings}) == 2
    for recording in recordings:
        info = soundfile.info(recording.path)
        assert (info.samplerate, info.duration) == (RATE_HZ, recording.duration_s)


def test_the_same_call_writes_the_same_sound(tmp_path):
    for name in ("one", "two"):
        write_corpus(tmp_path / name, n_speakers=1, takes_s=(0.8,))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_emotions_differ_and_nothing_clips():
    loudness: dict[str, float] = {}
    for label in LABELS:
        samples = voice(label, 200.0, 2.0, np.random.default_rng(1))
        assert samples.dtype == np.float32
        assert 0.02 < np.abs(samples).max() < 1
        loudness[label] = float(np.sqrt(np.mean(samples**2)))
    assert loudness["angry"] > 2 * loudness["sad"]
