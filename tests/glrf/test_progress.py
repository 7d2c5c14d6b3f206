import io

import pytest
from rich.console import Console

from glrf.progress import _lines, bar


def test_a_log_gets_a_line_every_ten_seconds() -> None:
    now_s, log = 0.0, io.StringIO()
    report = _lines("epochs", Console(file=log, width=200), clock=lambda: now_s)
    for done in range(1, 26):
        now_s = float(done)
        report(done, 100 if done < 20 else None)
    assert log.getvalue() == "epochs: 10 of 100\nepochs: 20\n"


def test_nothing_reaches_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("quick") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")
