from pathlib import Path

import pytest

import model_export
from model_export.experiment import read_experiment
from ser_core.errors import BadParameter

CONFIGS = sorted((Path(model_export.__file__).parent / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_config_can_be_read(path):
    experiment, sha256 = read_experiment(path)
    assert path.stem.startswith(experiment.name)
    assert len(sha256) == 64


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "",
        'name = "x"\nk = 3',
        'name = "x"\n[loss]\nkk = 3',
        'name = "x"\n[loss]\nk = "a"',
    ],
)
def test_a_config_that_is_not_understood_is_refused(tmp_path, text):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    with pytest.raises(BadParameter, match=r"bad\.toml"):
        read_experiment(config)
