import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model_export.corpora import Recording, write_manifest
from model_export.corpora.survey import Survey, survey_manifest, survey_release
from ser_core.errors import BadParameter
from ser_core.labels import LABELS
from tests.model_export.corpus import write_audio, write_corpus


def survey(manifest: Path, **options) -> Survey:
    return survey_manifest(manifest, manifest.parent, LABELS, **options)


def edited(manifest: Path, old: str, new: str, times: int = 1) -> Path:
    manifest.write_text(manifest.read_text().replace(old, new, times))
    return manifest


def test_a_sound_manifest_is_counted(tmp_path):
    seen = []
    found = survey(write_corpus(tmp_path), on_progress=lambda done, n: seen.append((done, n)))
    assert found.problems == []
    assert seen[-1] == (40, 40)
    assert found.summary()["toy"] == {
        "speakers": 4,
        "women": 4,
        "men": 0,
        "hours": round(20 * 4.2 / 3600, 3),
        "recordings": 40,
        "labels": dict.fromkeys(LABELS, 8),
        "rates_hz": {16_000: 40},
        "left_out": {},
    }


FIRST = "toy-s1-angry-0.flac"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FIRST, "gone.flac", "gone.flac does not exist"),
        (FIRST, "", "path is empty"),
        (FIRST, "a\0b.flac", "does not exist"),
        ("angry,angry,1.2", "angry,furious,1.2", "unknown label 'furious'"),
        ("angry,angry,1.2", "angry,angry,0", "duration_s='0' is not a positive number"),
        ("angry,angry,1.2", "angry,angry,2.4", "duration_s=2.4, but it lasts 1.200 s"),
        (",toy,s1,", ",toy,,", "speaker is empty"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path, old, new, said):
    manifest = edited(write_corpus(tmp_path), old, new)
    found = survey(manifest)
    (problem,) = found.problems
    assert problem.where == f"{manifest}:2"
    assert said in problem.cause
    assert len(found.recordings) == 39


def test_all_problems_are_told_at_once(tmp_path):
    manifest = edited(write_corpus(tmp_path), ",happy,1.2", ",joyful,1.2", 4)
    assert [p.where.rpartition(":")[2] for p in survey(manifest).problems] == [
        "4",
        "14",
        "24",
        "34",
    ]


def test_what_stands_twice_is_told_with_its_first_line(tmp_path):
    manifest = write_corpus(tmp_path)
    edited(
        manifest,
        "toy-s1-angry-1.flac,toy,s1,female,angry,angry,3.0",
        f"./{FIRST},toy,s1,female,angry,angry,1.2",
    )
    (problem,) = survey(manifest).problems
    assert str(problem).startswith(f"{manifest}:3: ")
    assert problem.cause.endswith(f"stands there twice, first at {manifest}:2")


def test_a_speaker_of_two_genders_is_told(tmp_path):
    manifest = write_corpus(tmp_path)
    manifest.write_text(manifest.read_text().replace("toy,s2,female", "toy,s2,male", 9))
    (problem,) = survey(manifest).problems
    assert problem.cause.endswith("s2 is female, before 'male'")


@pytest.mark.parametrize(
    ("samples", "rate_hz", "said"),
    [
        (np.zeros(0), 16_000, "holds no audio samples"),
        (np.zeros(800), 16_000, "0.050 s are no utterance"),
        (np.zeros(121 * 8_000), 8_000, "121.000 s are no utterance"),
        (np.zeros(4_000), 4_000, "4000"),
        (np.zeros((16_000, 3)), 16_000, "3 channels"),
    ],
)
def test_odd_audio_is_refused(tmp_path, samples, rate_hz, said):
    write_audio(tmp_path / "wav" / "03a01Fa.wav")
    odd = tmp_path / "wav" / "03a01Fb.wav"
    soundfile.write(odd, samples, rate_hz)
    found = survey_release("emo-db", tmp_path)
    (problem,) = found.problems
    assert problem.where == str(odd)
    assert said in problem.cause
    assert len(found.recordings) == 1


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, odd):
    write_audio(tmp_path / "wav" / "03a01Fa.wav")
    samples = np.zeros(16_000, np.float32)
    samples[[5, 7]] = odd
    soundfile.write(tmp_path / "wav" / "03a01Fb.wav", samples, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "wav" / "03a01Fc.wav", np.zeros(16_000), 16_000, subtype="FLOAT")
    found = survey_release("emo-db", tmp_path)
    (problem,) = found.problems
    assert problem.cause.endswith("holds 2 samples that are no numbers")
    assert len(found.recordings) == 2


def test_unreadable_headers_are_refused(tmp_path):
    whole = write_audio(tmp_path / "wav" / "03a01Fa.wav")
    (tmp_path / "wav" / "03a01Fb.wav").write_bytes(b"these are words" * 99)
    (tmp_path / "wav" / "03a01Fc.wav").write_bytes(whole.read_bytes()[:3_000])
    (tmp_path / "wav" / "03a01Fd.wav").write_bytes(b"")
    (tmp_path / "wav" / "03a01Fe.wav").mkdir()
    told = "\n".join(map(str, survey_release("emo-db", tmp_path).problems))
    for letter in "bcde":
        assert f"03a01F{letter}.wav: " in told


def test_another_rate_is_refused_where_one_is_asked_for(tmp_path):
    write_audio(tmp_path / "wav" / "03a01Fa.wav")
    slow = write_audio(tmp_path / "wav" / "03a01Fb.wav", rate_hz=8_000)
    assert survey_release("emo-db", tmp_path).rates_hz["emo-db"] == {16_000: 1, 8_000: 1}
    (problem,) = survey_release("emo-db", tmp_path, rate_hz=16_000).problems
    assert str(problem) == f"{slow}: 8000 Hz, not 16000 Hz"


def test_paths_stay_in_the_data_folder(tmp_path):
    write_audio(tmp_path / "elsewhere.wav")
    table = tmp_path / "mine" / "manifest.csv"
    table.parent.mkdir()
    table.write_text("path,speaker,label\n../elsewhere.wav,anna,sad\n")
    (problem,) = survey_release("csv", table.parent).problems
    assert problem.cause.endswith("lies outside the data folder")
    assert survey_release("csv", table.parent, tmp_path).recordings[0].name == "elsewhere.wav"


def test_of_a_manifest_too_and_no_path_is_absolute(tmp_path):
    paths = [write_audio(tmp_path / name) for name in ("..data/a.wav", "b.wav")]
    names = ["..data/a.wav", str(paths[1].resolve())]
    write_manifest(
        [Recording(tmp_path, "mine", "anna", "sad", 0.5, name=name) for name in names],
        tmp_path / "m.csv",
    )
    survey = survey_manifest(tmp_path / "m.csv", tmp_path, LABELS)
    assert [one.name for one in survey.recordings] == ["..data/a.wav"]
    (problem,) = survey.problems
    assert problem.cause.endswith("lies outside the data folder")


def test_a_corpus_of_other_emotions_only_is_refused(tmp_path):
    write_audio(tmp_path / "wav" / "03a01Ea.wav")
    (problem,) = survey_release("emo-db", tmp_path).problems
    assert "no recording has an emotion of the classes" in str(problem)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"path,corpus\n", b"\x00" * 99])
def test_what_is_no_manifest_is_refused_whole(tmp_path, content):
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(content)
    with pytest.raises(BadParameter, match=re.escape(str(manifest))):
        survey(manifest)


def test_bytes_amid_a_manifest_are_named_by_line(tmp_path):
    manifest = write_corpus(tmp_path)
    manifest.write_bytes(manifest.read_bytes().replace(b"toy-s1-angry-1", b"toy-s1-\xe9-1"))
    with pytest.raises(BadParameter, match=r"m.*\.csv:\d+: not CSV in UTF-8"):
        survey(manifest)


def test_unknown_corpora_and_roots_are_refused(tmp_path):
    with pytest.raises(BadParameter, match="unknown corpus 'mine'"):
        survey_release("mine", tmp_path)
    with pytest.raises(BadParameter, match="none does not exist"):
        survey_release("esd", tmp_path / "none")
