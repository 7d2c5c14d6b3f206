import numpy as np
import pytest

from model_export import stability
from model_export.cells import load_logits
from model_export.ledger import Ledger, read_ledger
from model_export.stability import Spoken, of_streams, of_utterances, spoken_of
from ser_core.labels import LABELS
from ser_core.smoothing import SmoothingConfig
from tests.model_export.ledgers import CORPORA, write_experiment

ANGRY, HAPPY, NEUTRAL, SAD, FEAR = range(5)
MEAN = SmoothingConfig("mean")


def said(reference: int, *labels: int, speaker: str = "a", strength: float = 0.8) -> Spoken:
    scores = np.full((len(labels), 5), 0.1, np.float32)
    scores[np.arange(len(labels)), labels] = strength
    return Spoken(speaker, LABELS[reference], LABELS, scores)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    write_experiment(tmp_path, "glrf-bands", 0.7)
    return read_ledger(tmp_path)


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return line.strip("| ").split(" | ")


def test_one_odd_segment_costs_purity_only_without_smoothing():
    recordings = [said(SAD, SAD, SAD, HAPPY, SAD, SAD), said(ANGRY, ANGRY, ANGRY, ANGRY)]
    raw, mean = of_utterances(recordings, None), of_utterances(recordings, MEAN)
    assert (raw.pure_acc, mean.pure_acc) == (0.5, 1.0)
    assert (raw.ua, mean.ua) == (1.0, 1.0)
    # Two changes in the six steps of 0.4 s between seven labels.
    assert raw.flips_a_minute == pytest.approx(2 / (6 * 0.4 / 60))
    assert mean.flips_a_minute == 0
    assert (raw.right, mean.right) == (7 / 8, 1.0)


def test_how_long_until_the_right_label():
    recordings = [said(SAD, HAPPY, HAPPY, SAD), said(SAD, SAD), said(ANGRY, SAD)]
    raw = of_utterances(recordings, None)
    assert raw.found == pytest.approx(2 / 3)
    assert raw.found_after_s == pytest.approx((2.8 + 2.0) / 2)
    assert raw.ua == pytest.approx(1 / 2)  # both sad ones end right, the angry one never does
    assert np.isnan(of_utterances([said(ANGRY, SAD)], None).found_after_s)
    with pytest.raises(ValueError, match="no recording"):
        of_utterances([], MEAN)


def test_a_stream_goes_on_over_recordings_of_one_speaker():
    own = [said(SAD, *[SAD] * 12), said(HAPPY, *[HAPPY] * 4)]
    assert of_utterances(own, MEAN).right == 1.0
    assert of_streams(own, None).right == 1.0
    assert of_streams(own, None).found_after_s == pytest.approx(0.4)
    mean = of_streams(own, MEAN)
    assert mean.right < 1  # the label before weighs on
    apart = [own[0], said(HAPPY, *[HAPPY] * 4, speaker="b")]
    assert of_streams(apart, MEAN).right == 1.0
    assert of_streams(own, SmoothingConfig("viterbi")).right > mean.right


def test_a_corpus_is_decided_among_its_own_labels(ledger):
    (cell, *_) = ledger.of("glrf-bands")
    logits = load_logits(ledger.folder, cell)
    assert logits is not None
    recordings = spoken_of(logits, "mine", CORPORA["mine"])
    assert {one.labels for one in recordings} == {("angry", "neutral", "sad")}
    assert {one.scores.shape for one in recordings} == {(3, 3)}
    assert len(recordings) == 60
    assert spoken_of(logits, "other", LABELS) == []
    # The last label of the running mean is what the cell was assessed by.
    assert of_utterances(recordings, MEAN).ua == pytest.approx(
        cell.metrics["corpora"]["mine"]["ua"], abs=0.01
    )


def test_the_section(ledger):
    text = stability.stability(ledger)
    for smoothing in ("`mean`", "`ema`", "`viterbi` (default)"):
        figures = row(text, smoothing)
        assert len(figures) == 7
        assert figures[2] == "–"  # no utterance of four segments
    assert "On nemo the default, `viterbi`, changes Pure-Acc by" in text
    assert "3 of 3 folds" in text
    assert "On mine the default" in text


def test_without_logits_it_is_missing(tmp_path):
    write_experiment(tmp_path, "glrf-bands", 0.7, with_logits=False)
    assert stability.stability(read_ledger(tmp_path)).startswith("*missing*")
