import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from glrf.main import app
from model_export.corpora import read_manifest
from ser_core.labels import LABELS
from tests.synthetic import RATE_HZ, voice

MEN, WOMEN = ("03", "10", "11", "12", "15"), ("08", "09", "13", "14", "16")


@pytest.fixture
def emo_db(tmp_path: Path) -> Path:
    """Ten actors, as released: anger, neutral, and boredom, which is left out."""
    root = tmp_path / "emo-db"
    (root / "wav").mkdir(parents=True)
    for speaker in (*MEN, *WOMEN):
        for letter in "WNL":
            samples = voice(RATE_HZ // 2, RATE_HZ, 150, seed=1)
            soundfile.write(root / "wav" / f"{speaker}a01{letter}a.wav", samples, RATE_HZ)
    return root


def manifest_of(cli: CliRunner, root: Path, *options: str) -> Path:
    out = root.parent / "manifest.csv"
    done = cli.invoke(app, ["corpus", "manifest", "emo-db", str(root), f"--out={out}", *options])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("command", ["manifest", "check", "split", "pieces"])
def test_each_command_says_what_it_does(cli: CliRunner, command: str) -> None:
    done = cli.invoke(app, ["corpus", command, "--help"])
    assert done.exit_code == 0
    assert f"corpus {command} [OPTIONS]" in done.stdout


def test_from_a_release_to_folds(cli: CliRunner, emo_db: Path) -> None:
    manifest = manifest_of(cli, emo_db)
    lines = manifest.read_text().splitlines()
    assert lines[0] == "path,corpus,speaker,gender,original_label,label,duration_s"
    assert lines[1] == "wav/03a01Na.wav,emo-db,03,male,neutral,neutral,0.500"
    assert len(lines) == 21
    checked = cli.invoke(app, ["corpus", "check", str(manifest), f"--data={emo_db}"])
    assert checked.exit_code == 0, checked.output
    head, row, *_ = checked.stdout.splitlines()
    assert dict(zip(head.split(), row.split(), strict=True)) == {
        **{"corpus": "emo-db", "f": "5", "m": "5", "hours": "0.00", "recordings": "20"},
        **{"angry": "10", "happy": "0", "neutral": "10", "sad": "0", "fear": "0"},
    }
    out = emo_db.parent / "splits" / "folds.json"
    options = [f"--manifest={manifest}", f"--data={emo_db}", f"--out={out}"]
    split = cli.invoke(app, ["corpus", "split", *options])
    assert split.exit_code == 0, split.output
    assert split.stdout.startswith(f"{out}: 5 folds by speaker, sha256 ")
    folds = json.loads(out.read_text())["folds"]
    assert [[s in WOMEN for s in fold["emo-db"]].count(True) for fold in folds] == [1] * 5


def test_a_split_for_one_training(cli: CliRunner, emo_db: Path) -> None:
    manifest, out = manifest_of(cli, emo_db), emo_db / "split.json"
    options = [f"--manifest={manifest}", f"--data={emo_db}", f"--out={out}"]
    done = cli.invoke(app, ["corpus", "split", *options, "--protocol=train-dev-test"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{out}: speakers 6 train, 2 dev, 2 test, sha256 ")


def test_a_split_that_is_not_speaker_disjoint_says_so(cli: CliRunner, emo_db: Path) -> None:
    manifest = manifest_of(cli, emo_db)
    options = [f"--manifest={manifest}", f"--data={emo_db}", f"--out={emo_db}/folds.json"]
    done = cli.invoke(app, ["corpus", "split", *options, "--protocol=random"])
    assert done.exit_code == 0
    assert "not speaker-disjoint" in done.stderr
    wrong = cli.invoke(app, ["corpus", "split", *options, "--protocol=fair"])
    assert wrong.exit_code == 2
    assert "use one of grouped, speaker-out, corpus-out, random, holdout" in wrong.stderr


def test_check_counts_a_release_and_what_it_leaves_out(cli: CliRunner, emo_db: Path) -> None:
    table = cli.invoke(app, ["corpus", "check", "emo-db", str(emo_db)])
    assert table.exit_code == 0, table.output
    assert "emo-db: 10 speakers, 20 at 16000 Hz, left out: 10 boredom" in table.stdout
    told = json.loads(cli.invoke(app, ["corpus", "check", "emo-db", str(emo_db), "--json"]).stdout)
    assert told["problems"] == []
    assert told["corpora"]["emo-db"]["labels"] == {"neutral": 10, "angry": 10}
    assert told["corpora"]["emo-db"]["left_out"] == {"boredom": 10}


def test_problems_are_listed_up_to_a_number_and_fail(cli: CliRunner, emo_db: Path) -> None:
    for letter in "XYZ":
        (emo_db / "wav" / f"03a01{letter}a.wav").write_bytes(b"")
    arguments = ["corpus", "check", "emo-db", str(emo_db)]
    done = cli.invoke(app, [*arguments, "--max-problems=2"])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"glrf: {emo_db}/wav/03a01Xa.wav: unknown emotion letter 'X'",
        f"glrf: {emo_db}/wav/03a01Ya.wav: unknown emotion letter 'Y'",
        "glrf: and 1 more problems; see --max-problems",
    ]
    as_json = cli.invoke(app, [*arguments, "--json"])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["problems"][2] == {
        "where": f"{emo_db}/wav/03a01Za.wav",
        "cause": "unknown emotion letter 'Z'",
    }


def test_a_malformed_release_makes_a_manifest_only_when_lenient(
    cli: CliRunner, emo_db: Path
) -> None:
    (emo_db / "wav" / "03a01Fa.wav").write_bytes(b"no sound")
    out = emo_db / "m.csv"
    arguments = ["corpus", "manifest", "emo-db", str(emo_db), f"--out={out}"]
    strict = cli.invoke(app, arguments)
    assert strict.exit_code == 1
    assert "03a01Fa.wav: " in strict.stderr
    assert not out.exists()
    lenient = cli.invoke(app, [*arguments, "--lenient"])
    assert lenient.exit_code == 0, lenient.output
    assert lenient.stderr == strict.stderr
    assert len(out.read_text().splitlines()) == 21


def test_corpora_add_up_in_one_manifest(cli: CliRunner, emo_db: Path) -> None:
    data = f"--data={emo_db.parent}"
    manifest_of(cli, emo_db, data)
    manifest_of(cli, emo_db, data, "--append", "--corpus=again")
    out = manifest_of(cli, emo_db, data, "--append")
    rows = [line.split(",")[:2] for line in out.read_text().splitlines()[1:]]
    assert len(rows) == 40
    assert rows[0] == ["emo-db/wav/03a01Na.wav", "again"]
    assert rows[20] == ["emo-db/wav/03a01Na.wav", "emo-db"]
    # The same files under two names are one corpus twice.
    done = cli.invoke(app, ["corpus", "check", str(out), data])
    assert done.exit_code == 1
    assert "stands there twice" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "m.csv"], "give it by --data"),
        (["check", "none.csv", "--data", "."], "none.csv does not exist"),
        (["manifest", "mine", ".", "--out", "m.csv"], "unknown corpus 'mine'; use one of iemocap"),
    ],
)
def test_what_was_not_meant_is_said(cli: CliRunner, arguments: list[str], said: str) -> None:
    done = cli.invoke(app, ["corpus", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_corpora_need_no_training_stack() -> None:
    program = (
        "import sys, model_export.corpora.survey, model_export.protocols\n"
        "sys.exit(bool({'torch', 'sklearn', 'librosa', 'onnx'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_any_folder_becomes_pieces_for_pretraining(cli: CliRunner, tmp_path: Path) -> None:
    root = tmp_path / "game"
    for name, duration_s in (("cs/hero.wav", 2.0), ("nl/hero.wav", 1.5), ("alone.flac", 3.0)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        samples = voice(int(duration_s * RATE_HZ), RATE_HZ, 150, seed=int(10 * duration_s))
        soundfile.write(root / name, samples, RATE_HZ)
    (root / "readme.txt").write_text("words")
    pool = tmp_path / "pool"
    done = cli.invoke(app, ["corpus", "pieces", str(root), f"--out={pool}"])
    assert done.exit_code == 0, done.output
    assert "game has 3 pieces, 0.00 hours, 3 speakers; 1 of 4 files left out" in done.stdout
    again = cli.invoke(app, ["corpus", "pieces", str(root), f"--out={pool}"])
    assert again.exit_code == 2
    assert "game is there already" in again.stderr
    other = cli.invoke(app, ["corpus", "pieces", str(root / "cs"), f"--out={pool}", "--corpus=x"])
    assert other.exit_code == 0, other.output
    recordings = read_manifest(pool / "manifest.csv", pool, LABELS)
    assert [(one.corpus, one.speaker, one.name) for one in recordings] == [
        ("game", "game", "game/alone.flac-000.flac"),
        ("game", "cs", "game/cs/hero.wav-000.flac"),
        ("game", "nl", "game/nl/hero.wav-000.flac"),
        ("x", "x", "x/hero.wav-000.flac"),
    ]
    none = cli.invoke(app, ["corpus", "pieces", str(tmp_path / "none"), f"--out={pool}"])
    assert "is no folder" in none.stderr
    (tmp_path / "text").mkdir()
    (tmp_path / "text/readme.txt").write_text("words")
    mute = cli.invoke(app, ["corpus", "pieces", str(tmp_path / "text"), f"--out={pool}"])
    assert "no speech of a second or more in the 1 files" in mute.stderr


def test_pieces_have_names_that_a_manifest_may_hold(cli: CliRunner, tmp_path: Path) -> None:
    root, pool = tmp_path / " game ", tmp_path / "pool"
    latin = os.fsdecode(b"caf\xe9.wav")
    for name in ("a.wav", " anna /b.wav", latin):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        samples = voice(2 * RATE_HZ, RATE_HZ, 150, seed=len(name))
        with (root / name).open("wb") as file:
            soundfile.write(file, samples, RATE_HZ, format="WAV")
    done = cli.invoke(app, ["corpus", "pieces", str(root), f"--out={pool}"])
    assert done.exit_code == 0, done.output
    assert "game has 2 pieces, 0.00 hours, 2 speakers; 1 of 3 files left out" in done.stdout
    recordings = read_manifest(pool / "manifest.csv", pool, LABELS)
    assert [(one.corpus, one.speaker) for one in recordings] == [("game", "anna"), ("game", "game")]
    for wrong in ("../else", " x", "a/b", "", ".."):
        done = cli.invoke(
            app, ["corpus", "pieces", str(root), f"--out={pool}", f"--corpus={wrong}"]
        )
        assert done.exit_code == 2
        assert "is no name of a corpus" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {" game ", "pool"}
