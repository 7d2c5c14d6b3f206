import hashlib

import librosa
import numpy as np
import pytest

from model_export import whisper
from ser_core.errors import ModelCorrupt, SerError
from tests.synthetic import voice


def test_the_log_mel_is_that_of_whisper():
    """Its `audio.py` in librosa's words: centred frames, the last one left out."""
    samples = voice(16_000 + 50, 16_000, 140, seed=2)
    stft = librosa.stft(samples, n_fft=400, hop_length=160, window="hann", pad_mode="reflect")
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80)
    logarithm = np.log10(np.maximum(filters @ np.abs(stft[:, :-1]) ** 2, 1e-10))
    expected = (np.maximum(logarithm, logarithm.max() - 8) + 4) / 4
    told = whisper.log_mel(samples)
    assert told.shape == (80, 100)
    assert told.dtype == np.float32
    assert told == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(1, 2), (400, 2), (639, 2), (640, 4)])
def test_an_even_number_of_frames_even_of_next_to_nothing(n_samples, n_frames):
    told = whisper.log_mel(np.zeros(n_samples, np.float32))
    assert told.shape == (80, n_frames)
    assert np.isfinite(told).all()


def test_the_mean_is_over_all_frames_30_s_at_a_time():
    lengths = []

    def encoder(log_mel):
        lengths.append(log_mel.shape[1])
        n = log_mel.shape[1] // 2
        return np.full((n, 3), len(lengths), np.float32)

    samples = voice(40 * 16_000 + 10, 16_000, 140, seed=1)
    assert whisper.mean_frame(samples, encoder) == pytest.approx([1.25] * 3)
    assert lengths == [3000, 1000]
    lengths.clear()
    whisper.mean_frame(samples[: 30 * 16_000 + 10], encoder)
    assert lengths == [3000]


def test_the_speech_alone_is_heard_with_silence_behind_it():
    heard = []

    def encoder(log_mel):
        heard.append(log_mel)
        n = log_mel.shape[1] // 2
        return np.stack([np.arange(n), np.ones(n)], axis=1).astype(np.float32)

    silence = np.full(16_000, 1e-5, np.float32)
    speech = voice(16_000, 16_000, 140, seed=1) + np.float32(0.3)
    told = whisper.speech_statistics(np.concatenate([silence, speech, silence]), encoder)
    assert heard[0].shape[1] == 2 * (50 + 25)  # a second, and half of one behind it
    assert told == pytest.approx([24.5, 1, np.arange(50).std(), 0])
    assert np.isfinite(whisper.speech_statistics(np.zeros(5, np.float32), encoder)).all()


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path):
    weights = tmp_path / "model.bin"
    with pytest.raises(ModelCorrupt, match="is not there") as refusal:
        whisper.check_weights(weights, whisper.SHA256)
    assert "glrf[whisper]" in refusal.value.remedy
    weights.write_bytes(b"weights")
    with pytest.raises(ModelCorrupt, match=r"model\.bin has the sha256"):
        whisper.check_weights(weights, whisper.SHA256)
    whisper.check_weights(weights, hashlib.sha256(b"weights").hexdigest())


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(whisper.load_encoder.__globals__, "needed", _absent)
    with pytest.raises(SerError, match="ctranslate2 by whisper"):
        whisper.load_encoder()


def _absent(module, extra):
    raise SerError(f"{module} by {extra}")


def test_parameters_and_macs_by_hand():
    # openai/whisper's tiny encoder has 8,208,384 with its 1500 x 384 sinusoids.
    assert whisper.n_parameters() == 8_208_384 - 1500 * 384
    frames = 100
    convolutions = 2 * frames * 80 * 384 * 3 + frames * 384 * 384 * 3
    layer = 12 * frames * 384 * 384 + 2 * frames * frames * 384
    assert whisper.n_macs(32_000) == convolutions + 4 * layer
