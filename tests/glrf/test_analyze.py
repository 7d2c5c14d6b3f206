import asyncio
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from glrf.local_server import LocalServer
from glrf.main import app
from glrf_client import FileResult, analyze_file
from service.manifest import Run, arguments
from tests.glrf.conftest import CLIP
from tests.service.running import assert_same_document
from tests.synthetic import voice


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "call.wav"
    soundfile.write(path, np.stack([voice(24_000), voice(24_000, seed=1)], axis=1), 8_000)
    return path


def test_json_gives_a_line_a_file_with_the_servers_numbers(
    cli: CliRunner, stereo: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLRF_MAX_BATCH", "1")  # as the server's
    done = cli.invoke(app, ["analyze", str(stereo), str(CLIP), "--json", "--roles", "a"])
    assert done.exit_code == 2  # one role does not fit two channels; the other file went on
    assert "call.wav: roles" in done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["file"] == str(CLIP)
    remote = asyncio.run(analyze_file(server.url, CLIP, roles="a"))
    assert FileResult.parse(result | {"request_id": remote.request_id}) == remote


def test_csv_is_one_table_of_all_files(cli: CliRunner, stereo: Path) -> None:
    done = cli.invoke(app, ["analyze", str(stereo), str(CLIP), "--csv"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["file"] for row in rows} == {str(stereo), str(CLIP)}
    whole = [row for row in rows if row["file"] == str(CLIP) and row["partial"] == "false"]
    assert len(whole) == 1 + (18_100 - 2_000) // 400
    assert float(whole[0]["score_angry"]) > 0
    assert {row["channel"] for row in rows if row["file"] == str(stereo)} == {"0", "1"}


def test_captions_of_one_file(cli: CliRunner, stereo: Path) -> None:
    done = cli.invoke(app, ["analyze", str(stereo), "--vtt", "--roles", "customer,agent"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("WEBVTT\n\n")
    assert "<v customer>" in done.stdout
    assert "<v agent>" in done.stdout


def test_a_report(cli: CliRunner, stereo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    call = tmp_path / "<b>&.wav"
    call.write_bytes(stereo.read_bytes())
    done = cli.invoke(
        app, ["analyze", str(call), "--report", str(out), "--roles", "customer,agent"]
    )
    assert done.exit_code == 0, done.output
    page = out.read_text(encoding="utf-8")
    assert "<h1>&lt;b&gt;&amp;.wav</h1>" in page
    assert page.count('class="wave"') == 2


def test_a_name_that_is_no_text(cli: CliRunner, stereo: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"call\xff.wav")
    named.write_bytes(stereo.read_bytes())
    shown = str(tmp_path / r"call\xff.wav")
    for option in ("--csv", "--json", "--vtt", "--partial"):
        done = cli.invoke(app, ["analyze", str(named), option])
        assert done.exit_code == 0, done.output
        if option == "--json":
            assert json.loads(done.stdout)["file"] == shown
        elif option != "--vtt":
            assert shown in done.stdout
    out, plot = tmp_path / "out.html", tmp_path / "out.svg"
    done = cli.invoke(app, ["analyze", str(named), "--report", str(out), "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert r"<h1>call\xff.wav</h1>" in out.read_text(encoding="utf-8")
    assert plot.stat().st_size


def test_a_file_named_like_a_formula(cli: CliRunner, stereo: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=1+1.wav").write_bytes(stereo.read_bytes())
    done = cli.invoke(app, ["analyze", "=1+1.wav", "--csv"])
    assert {row["file"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"'=1+1.wav"}


def test_the_manifest_is_enough_to_make_the_numbers_again(cli: CliRunner, stereo: Path) -> None:
    """A result's own `run` as options, and once more with none of them said."""

    def analysed(*options: str) -> dict:
        done = cli.invoke(app, ["analyze", str(stereo), "--json", *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    asked = ("--smoothing", "ema", "--endpoint-silence-ms", "300", "--no-partial")
    for first in (analysed(), analysed(*asked, "--roles", "a,b:off", "--rules", "sad>=0.1:1s")):
        again = analysed(*arguments(Run.model_validate(first["run"])))
        again["request_id"] = first["request_id"]
        assert_same_document(again, first)
    assert first["run"]["config"]["hysteresis"] == 0.03


def test_text_tells_each_channel(cli: CliRunner, stereo: Path) -> None:
    done = cli.invoke(app, ["analyze", str(stereo), "--roles", "customer,agent:off"])
    assert done.exit_code == 0, done.output
    assert "3.0 s, model tiny@1.0.0" in done.stdout
    assert "customer: " in done.stdout
    assert "agent: not scored" in done.stdout
    assert "narrowband_audio" in done.stdout
    assert done.stderr == ""


def test_a_bad_file_does_not_stop_the_others(cli: CliRunner, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not audio at all, though long enough to be sniffed at")
    missing = tmp_path / "missing.wav"
    done = cli.invoke(app, ["analyze", str(text), str(missing), str(CLIP), "--json"])
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(f"glrf: {text}: ")
    assert second == f"glrf: {missing}: No such file or directory"


def test_options_that_exclude_each_other(cli: CliRunner) -> None:
    assert cli.invoke(app, ["analyze", str(CLIP), "--json", "--csv"]).exit_code == 2
    for one in (["--plot", "x.png"], ["--report", "x.html"], ["--vtt"]):
        done = cli.invoke(app, ["analyze", str(CLIP), str(CLIP), *one])
        assert done.exit_code == 2
        assert "one by one" in done.stderr


def test_a_folder_without_models(cli: CliRunner, tmp_path: Path) -> None:
    done = cli.invoke(app, ["analyze", str(CLIP), "--model-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "no .onnx model" in done.stderr


@pytest.mark.parametrize("name", ["picture.png", "picture.svg"])
def test_plot(cli: CliRunner, stereo: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    done = cli.invoke(app, ["analyze", str(stereo), "--plot", str(out)])
    assert done.exit_code == 0, done.output
    assert out.stat().st_size > 10_000


def test_a_channel_that_is_off_is_not_drawn(cli: CliRunner, stereo: Path, tmp_path: Path) -> None:
    for roles, n_panels in (("a,b", 4), ("a,b:off", 2)):
        out = tmp_path / "picture.svg"
        arguments = ["analyze", str(stereo), "--roles", roles, "--plot", str(out)]
        done = cli.invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert out.read_text().count('<g id="axes_') == n_panels


def test_plot_of_a_format_that_is_none(cli: CliRunner, stereo: Path, tmp_path: Path) -> None:
    done = cli.invoke(app, ["analyze", str(stereo), "--plot", str(tmp_path / "picture.doc")])
    assert done.exit_code == 2
    assert ".png" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("option", ["--plot", "--report"])
def test_what_could_not_be_written_is_told_before_anything_is_scored(
    cli: CliRunner, stereo: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    for out, cause, status in (
        (tmp_path / "file" / "x.svg", "file: ", 1),
        (tmp_path, "is a folder", 2),
    ):
        done = cli.invoke(app, ["analyze", str(stereo), option, str(out)])
        assert done.exit_code == status
        assert cause in done.stderr
        assert not done.stdout


def test_a_folder_that_is_not_there_yet_is_made(
    cli: CliRunner, stereo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report.html"
    done = cli.invoke(app, ["analyze", str(stereo), "--report", str(out)])
    assert done.exit_code == 0, done.output
    assert "<html" in out.read_text()


def test_plot_without_matplotlib(cli: CliRunner, stereo: Path, without) -> None:
    without("matplotlib")
    done = cli.invoke(app, ["analyze", str(stereo), "--plot", "x.png"])
    assert done.exit_code == 2
    assert "needs matplotlib" in done.stderr
    assert "pip install 'glrf[train]'" in done.stderr
