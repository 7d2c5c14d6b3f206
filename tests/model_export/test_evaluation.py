import numpy as np
import pytest
import soundfile

from model_export.corpora import Recording, labels_by_corpus
from model_export.evaluation import assess, evaluate, report, score_recording
from ser_core.errors import BadParameter, ModelNotFound
from ser_core.events import Decision, Segment
from tests import synthetic
from tests.model_export.corpus import LABELS, write_corpus, write_split
from tests.synthetic import model_spec, voice, write_model


def recording(tmp_path, samples, label="sad", rate_hz=16_000):
    path = tmp_path / "one.wav"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return Recording(path, "toy", "s1", label, len(samples) / rate_hz)


def segment(**scores):
    full = dict.fromkeys(LABELS, 0.0) | scores
    return Segment(0, 0, 0, 0, 32_000, False, full, None, None, Decision(None, full), "0-0")


@pytest.mark.parametrize(
    ("duration_s", "n_segments"), [(0.3, 1), (1.9, 1), (2.0, 1), (2.39, 1), (2.4, 2), (5.0, 8)]
)
def test_whole_segments_every_400_ms_or_one_short_one(tmp_path, duration_s, n_segments):
    one = recording(tmp_path, voice(int(duration_s * 16_000)))
    segments = score_recording(one, model_spec(), synthetic.logits)
    assert len(segments) == n_segments


def test_silence_gives_nothing_to_decide_on(tmp_path):
    one = recording(tmp_path, np.zeros(48_000, np.float32))
    segments = score_recording(one, model_spec(), synthetic.logits)
    assert segments == []
    (assessed,) = assess([(one, segments)], LABELS)
    assert assessed.predicted == "neutral"


def test_other_rates_are_read(tmp_path):
    one = recording(tmp_path, voice(44_100 * 3, 44_100), rate_hz=44_100)
    assert len(score_recording(one, model_spec(), synthetic.logits)) == 3


def test_a_condition_disturbs_the_samples_at_16_khz_and_draws_alike_each_time(tmp_path):
    one = recording(tmp_path, voice(44_100 * 3, 44_100), rate_hz=44_100)
    seen = []

    def silenced_half(samples, rng):
        seen.append((len(samples), rng.random()))
        return np.where(np.arange(len(samples)) < 24_000, samples, 0).astype(np.float32)

    disturbed, again = (
        score_recording(one, model_spec(), synthetic.logits, silenced_half) for _ in range(2)
    )
    assert seen[0][0] == 48_000
    assert seen[0] == seen[1]
    assert disturbed == again
    plain = score_recording(one, model_spec(), synthetic.logits)
    assert len(disturbed) == len(plain) == 3
    assert all(a.scores != b.scores for a, b in zip(plain, disturbed, strict=True))


def test_nothing_done_to_the_samples_changes_nothing(tmp_path):
    one = recording(tmp_path, voice(48_000))
    plain = score_recording(one, model_spec(), synthetic.logits)
    assert (
        score_recording(one, model_spec(), synthetic.logits, lambda samples, rng: samples) == plain
    )


def test_the_average_of_the_segments_is_the_prediction(tmp_path):
    one = recording(tmp_path, voice(100))
    segments = [segment(angry=0.9, happy=0.4), segment(happy=0.8), segment(happy=0.3, sad=0.35)]
    (assessed,) = assess([(one, segments)], LABELS)
    assert assessed.predicted == "happy"  # 0.5 against 0.3 and 0.12
    assert assessed.segments == ("angry", "happy", "sad")


def test_a_corpus_that_lacks_a_label_is_decided_among_those_it_has(tmp_path):
    one = recording(tmp_path, voice(100), label="sad")
    other = recording(tmp_path, voice(100), label="angry")
    scored = [(one, [segment(happy=0.9, sad=0.5)]), (other, [segment(happy=0.9, angry=0.6)])]
    corpora = labels_by_corpus([one, other], LABELS)
    result = report(scored, corpora)
    assert result["corpora"]["toy"]["wa"] == 1
    assert result["corpora"]["toy"]["labels"] == ["angry", "sad"]
    assert result["all"]["confusion"] == [[1, 0], [0, 1]]


def test_a_corpus_of_one_label_is_decided_among_all(tmp_path):
    plain = recording(tmp_path, voice(100), label="neutral")
    scored = [(plain, [segment(angry=0.9, neutral=0.5)]), (plain, [segment(neutral=0.9)])]
    result = report(scored, labels_by_corpus([plain], LABELS))
    assert result["corpora"]["toy"]["ua"] == 0.5
    assert result["corpora"]["toy"]["labels"] == list(LABELS)


def test_a_part_of_a_corpus_is_decided_among_all_of_its_labels(tmp_path):
    sad, angry = (recording(tmp_path, voice(100), label=label) for label in ("sad", "angry"))
    scored = [(sad, [segment(angry=0.9, sad=0.5)])]  # a speaker who is never angry
    result = report(scored, labels_by_corpus([sad, angry], LABELS))
    assert (result["corpora"]["toy"]["wa"], result["all"]["wa"]) == (0, 0)
    assert result["corpora"]["toy"]["labels"] == ["angry", "sad"]


def test_evaluate_a_model_file(tmp_path):
    write_model(tmp_path / "tiny.onnx")
    manifest, split = write_corpus(tmp_path), write_split(tmp_path)
    seen = []
    result = evaluate(
        tmp_path / "tiny.onnx",
        manifest,
        tmp_path,
        split,
        "test",
        svm=True,
        on_progress=lambda *p: seen.append(p),
    )
    assert result["svm"]["corpora"]["toy"]["n"] == 10
    assert result["svm"]["all"]["pure_acc"] is None
    assert result["split"]["subset"] == "test"
    assert seen == [(n, 40) for n in range(1, 41)]  # 20 and 10 for the SVM, 10 for the model
    assert result["corpora"]["toy"]["n"] == 10
    assert result["model"]["name"] == "tiny"
    whole = evaluate(tmp_path / "tiny.onnx", manifest, tmp_path)
    assert whole["all"]["n"] == 40


def test_conditions_stand_beside_the_clean_result(tmp_path):
    write_model(tmp_path / "tiny.onnx")
    manifest, split = write_corpus(tmp_path), write_split(tmp_path)
    seen = []
    result = evaluate(
        tmp_path / "tiny.onnx",
        manifest,
        tmp_path,
        split,
        "test",
        conditions=["mulaw-8k", "babble-10db"],
        on_progress=lambda *p: seen.append(p),
    )
    assert list(result["conditions"]) == ["mulaw-8k", "babble-10db"]
    for under in result["conditions"].values():
        assert under["corpora"]["toy"]["n"] == under["all"]["n"] == result["all"]["n"] == 10
    assert seen[-1] == (30, 30)


def test_what_does_not_fit_is_refused(tmp_path):
    write_model(tmp_path / "tiny.onnx")
    manifest, split = write_corpus(tmp_path), write_split(tmp_path)
    with pytest.raises(ModelNotFound):
        evaluate(tmp_path / "none.onnx", manifest, tmp_path)
    with pytest.raises(BadParameter, match="a split needs a subset"):
        evaluate(tmp_path / "tiny.onnx", manifest, tmp_path, split)
    with pytest.raises(BadParameter, match="unknown subset"):
        evaluate(tmp_path / "tiny.onnx", manifest, tmp_path, split, "tset")
    with pytest.raises(BadParameter, match="an SVM needs"):
        evaluate(tmp_path / "tiny.onnx", manifest, tmp_path, svm=True)
    with pytest.raises(BadParameter, match="unknown condition 'rain'"):
        evaluate(tmp_path / "tiny.onnx", manifest, tmp_path, conditions=["rain"])
    with pytest.raises(BadParameter, match="babble needs other speakers"):
        evaluate(tmp_path / "tiny.onnx", manifest, tmp_path, conditions=["babble-10db"])
