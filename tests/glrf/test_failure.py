import pytest
import typer

from glrf.failure import needed, print_error, reported
from glrf_client import Refused, StreamError
from ser_core.errors import BadAudio, ModelNotFound, Overloaded, SerError


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (BadAudio("it is noise", remedy="send speech"), "glrf: it is noise; send speech\n", 2),
        (ModelNotFound("no model"), "glrf: no model\n", 2),
        (Overloaded("full", remedy="wait"), "glrf: full; wait\n", 1),
        (StreamError("overloaded", "full"), "glrf: overloaded: full\n", 1),
        (Refused(400, {"title": "no"}), "glrf: refused with status 400: no\n", 1),
        (FileNotFoundError(2, "No such file", "a.wav"), "glrf: a.wav: No such file\n", 1),
        (ConnectionResetError("gone"), "glrf: gone\n", 1),
    ],
)
def test_a_known_error_is_one_line(
    error: Exception, line: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as end:
        reported(command)()
    assert end.value.exit_code == status
    captured = capsys.readouterr()
    assert captured.err == line
    assert captured.out == ""


def test_a_bug_keeps_its_traceback() -> None:
    def command() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        reported(command)()


def test_an_interrupt_is_130() -> None:
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as end:
        reported(command)()
    assert end.value.exit_code == 130


def test_what_it_is_about_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_error(BadAudio("it is noise"), "a.wav") == 2
    assert print_error(FileNotFoundError(2, "No such file", "a.wav"), "a.wav") == 1
    assert capsys.readouterr().err == "glrf: a.wav: it is noise\nglrf: a.wav: No such file\n"


def test_a_missing_package_comes_with_its_remedy() -> None:
    with pytest.raises(SerError, match="needs no_such_package") as missing:
        needed("no_such_package.part", "install it")
    assert missing.value.remedy == "install it"
