"""Each reader on a small tree in its corpus's real layout; the sources are in the readers."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from model_export.corpora import Recording, read_manifest, write_manifest
from model_export.corpora.releases import RELEASES
from model_export.corpora.survey import survey_release
from ser_core.labels import LABELS
from tests.model_export.corpus import write_audio

Row = tuple[str, str, str, str, str]


def rows(recordings: list[Recording]) -> list[Row]:
    return [(r.name, r.speaker, r.gender, r.original_label, r.label) for r in recordings]


def causes(name: str, root: Path) -> str:
    return "\n".join(map(str, survey_release(name, root).problems))


VAD = "[2.5000, 2.5000, 2.5000]"


def write_iemocap(root: Path) -> Path:
    """Two dialogs; in each both actors speak, whoever wears the markers."""
    turns = {
        "Ses01F_impro01": [("F000", "neu"), ("M000", "ang"), ("F001", "exc"), ("F002", "xxx")],
        "Ses05M_script01_1b": [("M003", "sad"), ("F010", "hap"), ("M004", "fru"), ("F011", "fea")],
    }
    for dialog, spoken in turns.items():
        session = root / f"Session{dialog[4]}"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for i, (turn, emotion) in enumerate(spoken):
            lines += [
                f"[{i + 6}.2901 - {i + 7}.2357]\t{dialog}_{turn}\t{emotion}\t{VAD}",
                "C-E2:\tNeutral;\t()",
                "A-E3:\tval 3; act 2; dom  2;\t()",
                "",
            ]
            write_audio(session / "sentences" / "wav" / dialog / f"{dialog}_{turn}.wav")
        evaluation = session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        evaluation.parent.mkdir(parents=True)
        evaluation.write_text("\n".join(lines) + "\n")
        # What a Mac leaves beside each file of the release.
        (evaluation.parent / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    return root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"


def test_iemocap_has_four_classes_and_the_speaker_is_who_speaks(tmp_path):
    write_iemocap(tmp_path)
    survey = survey_release("iemocap", tmp_path)
    assert survey.problems == []
    wav = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01"
    wav_5 = "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b"
    assert rows(survey.recordings) == [
        (f"{wav}_F000.wav", "Ses01F", "female", "neu", "neutral"),
        (f"{wav}_M000.wav", "Ses01M", "male", "ang", "angry"),
        (f"{wav}_F001.wav", "Ses01F", "female", "exc", "happy"),
        (f"{wav_5}_M003.wav", "Ses05M", "male", "sad", "sad"),
        (f"{wav_5}_F010.wav", "Ses05F", "female", "hap", "happy"),
    ]
    assert survey.left_out["iemocap"] == {"xxx": 1, "fru": 1, "fea": 1}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\tneu\t", "\tneq\t", ":3: unknown emotion 'neq'"),
        ("- 7.2357]", "- 7.2357", r":3: not of the form \[start - end\]"),
        ("- 7.2357]", "- 5.2357]", ":3: the turn ends at 5.2357 s, before it starts"),
        ("impro01_F000", "impro02_F000", ":3: Ses01F_impro02_F000 is no turn of Ses01F_impro01"),
        ("impro01_F000", "impro01_X000", ":3: Ses01F_impro01_X000 is no turn of Ses01F_impro01"),
        ("impro01_F000", "impro01_F009", ":3: .*Ses01F_impro01_F009.wav does not exist"),
        ("impro01_F000", "impro01_M000", ":7: .*_M000.wav stands there twice, first at .*:3"),
    ],
)
def test_iemocap_names_the_line(tmp_path, old, new, said):
    evaluation = write_iemocap(tmp_path)
    evaluation.write_text(evaluation.read_text().replace(old, new, 1))
    (problem,) = survey_release("iemocap", tmp_path).problems
    assert str(problem).startswith(str(evaluation))
    assert re.search(said, str(problem)), problem


NEMO_HEAD = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


def write_nemo(root: Path) -> Path:
    """As in the repository: texts with Polish quotation marks, speakers padded with blanks."""
    lines = [NEMO_HEAD]
    for name, gender in (
        ("WR0_surprised_64", "male"),
        ("EB0_neutral_13", "female"),
        ("KS0_fear_38", "male"),
        ("IC0_anger_11", "female"),
        ("SM0_sadness_2", "male"),
        ("TP0_happiness_9", "male"),
    ):
        speaker, emotion, _ = name.split("_")
        lines.append(
            f'{name}.wav\t{emotion}\t„Ród smoka” to "serial.\tród smoka\t        {speaker}'
            f"\t{gender}\t23"
        )
        write_audio(root / "samples" / f"{name}.wav", rate_hz=24_000)
    table = root / "data.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def test_nemo_by_its_table(tmp_path):
    write_nemo(tmp_path)
    survey = survey_release("nemo", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("samples/EB0_neutral_13.wav", "EB0", "female", "neutral", "neutral"),
        ("samples/KS0_fear_38.wav", "KS0", "male", "fear", "fear"),
        ("samples/IC0_anger_11.wav", "IC0", "female", "anger", "angry"),
        ("samples/SM0_sadness_2.wav", "SM0", "male", "sadness", "sad"),
        ("samples/TP0_happiness_9.wav", "TP0", "male", "happiness", "happy"),
    ]
    assert survey.left_out["nemo"] == {"surprised": 1}
    assert survey.rates_hz["nemo"] == {24_000: 5}


def test_nemo_by_its_names(tmp_path):
    """A converted copy, sorted by speaker, without the table."""
    write_audio(tmp_path / "IC0" / "IC0_anger_1.flac")
    write_audio(tmp_path / "WR0" / "WR0_surprised_1.flac")
    survey = survey_release("nemo", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [("IC0/IC0_anger_1.flac", "IC0", "female", "anger", "angry")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("IC0_anger_11.wav\tanger", "IC0_anger_11.wav\tfear", ":5: .* listed as 'fear' of 'IC0'"),
        ("        IC0", "        KD0", ":5: .* listed as 'anger' of 'KD0'"),
        ("IC0\tfemale", "IC0\tmale", ":5: gender 'male' of IC0"),
        ("IC0_anger_11.wav", "IC0_rage_11.wav", ":5: unknown emotion 'rage'"),
        ("IC0_anger_11.wav", "anger.wav", ":5: 'anger.wav' is not of the form"),
        ("IC0_anger_11.wav", "IC0_anger_12.wav", ":5: .*IC0_anger_12.wav does not exist"),
        ("speaker_id", "who", ":1: lacks the columns speaker_id"),
    ],
)
def test_nemo_names_the_line(tmp_path, old, new, said):
    table = write_nemo(tmp_path)
    table.write_text(table.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert re.search(said, causes("nemo", tmp_path))


def test_ravdess_calm_is_neutral_and_song_is_left_out(tmp_path):
    for name in (
        "Actor_01/03-01-02-01-01-01-01",
        "Actor_01/03-01-06-02-02-02-01",
        "Actor_02/03-01-05-01-01-02-02",
        "Actor_02/03-01-08-01-01-02-02",
        "Actor_02/03-02-03-01-01-02-02",
    ):
        write_audio(tmp_path / f"{name}.wav", rate_hz=48_000)
    survey = survey_release("ravdess", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("Actor_01/03-01-02-01-01-01-01.wav", "r01", "male", "calm", "neutral"),
        ("Actor_01/03-01-06-02-02-02-01.wav", "r01", "male", "fearful", "fear"),
        ("Actor_02/03-01-05-01-01-02-02.wav", "r02", "female", "angry", "angry"),
    ]
    assert survey.left_out["ravdess"] == {"surprised": 1, "happy (song)": 1}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Actor_01/03-01-09-01-01-01-01.wav", "unknown emotion '09'"),
        ("Actor_02/03-01-05-01-01-01-01.wav", "a recording of actor 01"),
        ("Actor_01/01-01-05-01-01-01-01.wav", "not named 03-channel"),
        ("Actor_01/notes.wav", "not named 03-channel"),
    ],
)
def test_ravdess_names_the_file(tmp_path, name, said):
    write_audio(tmp_path / name)
    assert causes("ravdess", tmp_path).startswith(f"{tmp_path / name}: {said}")


def test_emo_db_by_letters(tmp_path):
    for name in ("03a01Fa", "08b02Wb", "10a04Na", "13a05Tc", "16a07Aa", "15b09La", "14a02Ea"):
        write_audio(tmp_path / "wav" / f"{name}.wav")
    survey = survey_release("emo-db", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("wav/03a01Fa.wav", "03", "male", "happiness", "happy"),
        ("wav/08b02Wb.wav", "08", "female", "anger", "angry"),
        ("wav/10a04Na.wav", "10", "male", "neutral", "neutral"),
        ("wav/13a05Tc.wav", "13", "female", "sadness", "sad"),
        ("wav/16a07Aa.wav", "16", "female", "fear", "fear"),
    ]
    assert survey.left_out["emo-db"] == {"boredom": 1, "disgust": 1}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("03a01Xa", "unknown emotion letter 'X'"),
        ("99a01Fa", "unknown speaker '99'"),
        ("take-1", "not of the form 03a01Fa.wav"),
    ],
)
def test_emo_db_names_the_file(tmp_path, name, said):
    path = write_audio(tmp_path / "wav" / f"{name}.wav")
    assert causes("emo-db", tmp_path).startswith(f"{path}: {said}")


def test_urdu_speakers_stand_in_several_folders(tmp_path):
    for name in (
        "Angry/SM3_F1_A051",
        "Happy/SF1_F10_H010",
        "Neutral/SM3_F1_N021",
        "Sad/SM24_F9_S021",
    ):
        write_audio(tmp_path / f"{name}.wav")
    survey = survey_release("urdu", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("Angry/SM3_F1_A051.wav", "SM3", "male", "Angry", "angry"),
        ("Happy/SF1_F10_H010.wav", "SF1", "female", "Happy", "happy"),
        ("Neutral/SM3_F1_N021.wav", "SM3", "male", "Neutral", "neutral"),
        ("Sad/SM24_F9_S021.wav", "SM24", "male", "Sad", "sad"),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Angry/SM1_F1_H01", "emotion letter 'H' in the folder Angry"),
        ("Bored/SM1_F1_B01", "unknown emotion 'Bored'"),
        ("Sad/SX1_F1_S01", "not of the form SM1_F10_A010.wav"),
    ],
)
def test_urdu_names_the_file(tmp_path, name, said):
    path = write_audio(tmp_path / f"{name}.wav")
    assert causes("urdu", tmp_path).startswith(f"{path}: {said}")


def test_plain_speech_has_a_voice_for_each_language_of_each_game(tmp_path):
    stamps = tmp_path / "tuxpaint/stamps/animals"
    for name in ("birds/duck_desc_fr.ogg", "birds/duck_desc.ogg", "fish_desc_pt_BR.ogg.ogg"):
        write_audio(stamps / name)
    write_audio(stamps / "birds/duck.ogg")  # it quacks
    write_audio(tmp_path / "ktuberling/sounds/sr@latin/hat.wav")
    (tmp_path / "ktuberling/sounds/fr.soundtheme").write_text("<sounds/>")
    survey = survey_release("plain", tmp_path)
    assert survey.problems == []
    animals = "tuxpaint/stamps/animals"
    assert rows(survey.recordings) == [
        (f"{animals}/birds/duck_desc.ogg", "tuxpaint-en", "", "plain", "neutral"),
        (f"{animals}/birds/duck_desc_fr.ogg", "tuxpaint-fr", "", "plain", "neutral"),
        (f"{animals}/fish_desc_pt_BR.ogg.ogg", "tuxpaint-pt_BR", "", "plain", "neutral"),
        ("ktuberling/sounds/sr@latin/hat.wav", "ktuberling-sr@latin", "", "plain", "neutral"),
    ]


def test_plain_speech_names_the_file(tmp_path):
    path = write_audio(tmp_path / "tuxpaint/stamps/duck_desc_FRENCH.ogg")
    assert causes("plain", tmp_path).startswith(f"{path}: not named WORD_desc_LANGUAGE.ogg")


def write_crema_d(root: Path) -> Path:
    for name in (
        "1001_DFA_ANG_XX",
        "1001_IEO_HAP_HI",
        "1002_IEO_NEU_XX",
        "1002_TIE_DIS_XX",
        "1040_ITH_SAD_X",
    ):
        write_audio(root / "AudioWAV" / f"{name}.wav")
    table = root / "VideoDemographics.csv"
    table.write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n'
        '1001,51,"Male","Caucasian","Not Hispanic"\n'
        '1002,21,"Female","Caucasian","Not Hispanic"\n'
    )
    return table


def test_crema_d_with_its_demographics(tmp_path):
    table = write_crema_d(tmp_path)
    survey = survey_release("crema-d", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("AudioWAV/1001_DFA_ANG_XX.wav", "1001", "male", "anger", "angry"),
        ("AudioWAV/1001_IEO_HAP_HI.wav", "1001", "male", "happy", "happy"),
        ("AudioWAV/1002_IEO_NEU_XX.wav", "1002", "female", "neutral", "neutral"),
        ("AudioWAV/1040_ITH_SAD_X.wav", "1040", "", "sad", "sad"),
    ]
    assert survey.left_out["crema-d"] == {"disgust": 1}
    table.unlink()
    assert {r.gender for r in survey_release("crema-d", tmp_path).recordings} == {""}


def test_crema_d_names_file_and_line(tmp_path):
    table = write_crema_d(tmp_path)
    table.write_text(table.read_text().replace('"Female"', '"F"'))
    path = write_audio(tmp_path / "AudioWAV" / "1002_DFA_JOY_XX.wav")
    other = write_audio(tmp_path / "AudioWAV" / "1002_DFA.wav")
    assert causes("crema-d", tmp_path).splitlines() == [
        f"{table}:3: actor '1002' of sex 'f'",
        f"{other}: not of the form 1001_DFA_ANG_XX.wav",
        f"{path}: unknown emotion 'JOY'",
    ]


def write_esd(root: Path) -> Path:
    """One Mandarin speaker, flat; one English speaker, with the release's parts."""
    write_audio(root / "0004" / "Angry" / "0004_000351.wav")
    write_audio(root / "0004" / "Surprise" / "0004_001401.wav")
    write_audio(root / "0011" / "Sad" / "train" / "0011_001051.wav")
    write_audio(root / "0011" / "Neutral" / "test" / "0011_000001.wav")
    (root / "0004" / "0004.txt").write_text(
        "0004_000351\t打远一看\t生气\n0004_001401\t打远一看\t惊喜\n", encoding="utf-8"
    )
    transcript = root / "0011" / "0011.txt"
    transcript.write_text(
        "0011_000001\tThe nine the eggs, I keep.\tNeutral\n"
        "0011_001051\tThe nine the eggs, I keep.\tSad\n\n",
        encoding="utf-16",
    )
    return transcript


def test_esd_flat_and_in_parts(tmp_path):
    write_esd(tmp_path)
    survey = survey_release("esd", tmp_path)
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("0004/Angry/0004_000351.wav", "0004", "male", "Angry", "angry"),
        ("0011/Neutral/test/0011_000001.wav", "0011", "male", "Neutral", "neutral"),
        ("0011/Sad/train/0011_001051.wav", "0011", "male", "Sad", "sad"),
    ]
    assert survey.left_out["esd"] == {"Surprise": 1}


def test_esd_names_file_and_line(tmp_path):
    transcript = write_esd(tmp_path)
    transcript.write_text(
        "0011_000001\tThe nine the eggs, I keep.\tNeutral\n"
        "0011_001051\tThe nine the eggs, I keep.\tHappy\n"
        "0011_001052 The nine the eggs\n"
    )
    strange = write_audio(tmp_path / "0011" / "Furious" / "0011_000002.wav")
    other = write_audio(tmp_path / "0011" / "Sad" / "0012_000002.wav")
    assert causes("esd", tmp_path).splitlines() == [
        f"{transcript}:3: not of the form recording, text, emotion, by tabs",
        f"{strange}: unknown emotion 'Furious'",
        f"{other}: not of the form 0011_000351.wav",
        f"{transcript}:2: 0011_001051 is Happy, but lies in {tmp_path}/0011/Sad/train",
    ]


def write_st_emo(root: Path) -> Path:
    lines = ["path,speaker,gender,label"]
    for i, label in enumerate(LABELS):
        write_audio(root / "wav" / f"a{i}.wav", duration_s=1, rate_hz=48_000)
        lines.append(f"wav/a{i}.wav,actor{i},{'fm'[i % 2]},{label}")
    table = root / "manifest.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_st_emo_has_the_five_classes(tmp_path):
    write_st_emo(tmp_path)
    survey = survey_release("st-emo", tmp_path)
    assert survey.problems == []
    assert tuple(r.label for r in survey.recordings) == LABELS
    assert rows(survey.recordings)[:2] == [
        ("wav/a0.wav", "actor0", "female", "angry", "angry"),
        ("wav/a1.wav", "actor1", "male", "happy", "happy"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",angry", ",surprise", ":2: unknown emotion 'surprise'"),
        (",angry", ",anger", ":2: unknown emotion 'anger'"),
        ("actor0", "", ":2: speaker is empty"),
        (",f,", ",x,", ":2: unknown gender 'x'"),
        ("path,", "where,", ":1: lacks a column for path"),
    ],
)
def test_st_emo_names_the_line(tmp_path, old, new, said):
    table = write_st_emo(tmp_path)
    table.write_text(table.read_text().replace(old, new, 1))
    assert f"{table}{said}" in causes("st-emo", tmp_path)


def test_any_table_with_its_own_words(tmp_path):
    table = tmp_path / "all of it.csv"
    table.write_text(
        "File;Speaker_ID;Emotion\nx/1.wav;anna;Anger\nx/2.wav;ben;joy\nx/2.wav;ben;pride\n",
        encoding="utf-8-sig",
    )
    write_audio(tmp_path / "x" / "1.wav")
    write_audio(tmp_path / "x" / "2.wav")
    survey = survey_release("csv", table, corpus="mine")
    assert survey.problems == []
    assert rows(survey.recordings) == [
        ("x/1.wav", "anna", "", "Anger", "angry"),
        ("x/2.wav", "ben", "", "joy", "happy"),
    ]
    assert survey.recordings[0].speaker_key == ("mine", "anna")
    assert survey.left_out["mine"] == {"pride": 1}


@pytest.mark.parametrize("name", RELEASES)
def test_a_tree_of_something_else_is_refused(tmp_path, name):
    (problem,) = survey_release(name, tmp_path).problems
    assert re.search("no recordings; expected|does not exist", str(problem))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("iemocap", write_iemocap),
        ("nemo", write_nemo),
        ("crema-d", write_crema_d),
        ("esd", write_esd),
        ("st-emo", write_st_emo),
    ],
)
def test_bytes_that_are_no_text_are_named(tmp_path, name, write: Callable[[Path], Path]):
    table = write(tmp_path)
    table.write_bytes(b"\x80\x81\n" * 9)
    assert f"{table}: {table} is not text in UTF-8" in causes(name, tmp_path)


def test_a_manifest_made_from_a_release_reads_back(tmp_path):
    write_iemocap(tmp_path / "iemocap")
    survey = survey_release("iemocap", tmp_path / "iemocap", tmp_path)
    write_manifest(survey.recordings, tmp_path / "all.csv")
    assert read_manifest(tmp_path / "all.csv", tmp_path, LABELS) == survey.recordings
    assert survey.recordings[0].name.startswith("iemocap/Session1/")
    assert survey.recordings[0].duration_s == 0.5
