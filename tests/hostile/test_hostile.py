"""A smaller number of the files that `python -m tests.hostile` posts."""

import pytest

from tests.hostile.files import hostile_files
from tests.hostile.trial import run

N_FILES = 60


def test_the_same_seed_makes_the_same_files() -> None:
    assert list(hostile_files(15, 3)) == list(hostile_files(15, 3))
    assert list(hostile_files(15, 3)) != list(hostile_files(15, 4))


@pytest.mark.timeout(400)
def test_each_file_is_answered_with_a_cause() -> None:
    findings = run(hostile_files(N_FILES, seed=7))
    assert findings.faults == []
    assert len(findings.answers) == N_FILES
    assert {a.status for a in findings.answers} <= {200, 413, 415, 422}
    assert len(findings.counts) > 5  # not all for one reason
    assert float(findings.decoder_cpu_s) <= 20
    assert float(findings.decoder_peak_mb) <= 270
    assert findings.server_peak_mb - findings.server_early_mb < 100
