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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "MyCorpus"', "name: String should match pattern"),
        ("[features]\nn_mels = 20\nn_mfcc = 24", "n_mfcc=24 must be in 1..20"),
        ("[features]\nn_mels = 160", "n_mels=160: 5 mel filters .* hear nothing"),
        ("[features]\nfmax_hz = 9000", "features.fmax_hz: Input should be less"),
        ("[features]\nfmin_hz = 7900", "fmin_hz must be below fmax_hz"),
        ("[loss]\nk = 5", "loss.k: Input should be greater than or equal to 10"),
        ("[loss]\nlabel_smoothing = 1.5", "loss.label_smoothing: Input should be less than 1"),
        ("[training]\nbatch_size = 0", "training.batch_size: Input should be greater"),
        ("[training]\nlearning_rate = nan", "training.learning_rate: Input should be a finite"),
        ("[training]\nseed = -1", "training.seed: Input should be greater"),
        ("[augment]\nspeeds = []", "augment.speeds: .* at least 1 item"),
        ("[augment]\nspeeds = [90, 100]", r"augment.speeds.0: Input should be less"),
        ("[augment]\nnoise = 30", "augment.noise: Input should be less than or equal to 1"),
        ("[augment]\nmask_mels = 65", "augment.mask_mels = 65 is more than features.n_mels = 64"),
        ("[augment]\nsnr_db = [50, 20]", r"snr_db = \[50, 20\] must be the lower"),
        ("[distillation]\nposterior = 40", "distillation.posterior: Input should be less"),
        ("[mixup]\nalpha = 0", "mixup.alpha: Input should be greater than 0"),
        ('[mixup]\nprobability = 0.5\n[loss]\nkind = "cross-entropy"', "mixup is for network.kind"),
        ('[mixup]\nprobability = 0.5\n[network]\nkind = "glam"', "mixup is for network.kind glrf"),
        ("[network]\nn_heads = 0", "network.glrf.n_heads: Input should be greater"),
        ('labels = ["sad", "angry", "sad"]', "labels repeat: sad, angry, sad"),
        ('labels = ["sad"]', "labels: .* at least 2 items"),
    ],
)
def test_a_value_that_cannot_be_trained_with_is_told_at_once(tmp_path, text, told):
    config = tmp_path / "bad.toml"
    config.write_text(text if text.startswith("name") else f'name = "x"\n{text}')
    with pytest.raises(BadParameter, match=rf"bad\.toml: .*{told}") as refused:
        read_experiment(config)
    assert "\n" not in str(refused.value)
