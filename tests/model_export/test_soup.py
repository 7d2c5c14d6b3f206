import json

import pytest
import torch

from model_export.corpora import read_manifest
from model_export.crossval import cross_validate
from model_export.experiment import read_experiment
from model_export.fitting import Progress, read_checkpoint
from model_export.protocols import grouped
from model_export.soup import averaged
from model_export.splits import write_division
from model_export.train import train
from ser_core.errors import BadParameter
from tests.model_export.corpus import LABELS, write_config, write_corpus, write_split

N_EPOCHS = 2


@pytest.fixture
def inputs(tmp_path):
    """A corpus, and a config of a soup of two; `init` is what they start from."""
    config = write_config(tmp_path, epochs=N_EPOCHS)
    inputs = {
        "config": config,
        "manifest": write_corpus(tmp_path),
        "data": tmp_path,
        "split": write_split(tmp_path),
    }
    init = train(**inputs, out=tmp_path / "start")
    config.write_text(config.read_text() + "pretrained = true\nsoup = 2\n")
    return inputs | {"init": init}


def weights(path):
    state = read_checkpoint(path, "")
    return state["network"] if path.name == "final.pt" else state["average"]["network"]


def check_mean(mean, *networks):
    for name, tensor in mean.items():
        if tensor.dtype.is_floating_point:
            expected = sum(network[name].double() for network in networks) / len(networks)
            torch.testing.assert_close(tensor.double(), expected)
        else:
            assert tensor == networks[0][name]


def test_the_mean_of_weights_and_statistics():
    networks = [torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)]
    for value, network in enumerate(networks):
        network(torch.randn(8, 3) + value)
        torch.nn.init.constant_(network.weight, value)
    before = [dict(network.state_dict()) for network in networks]
    check_mean(averaged(networks).state_dict(), *before)
    assert networks[0].weight[0] == 0  # as it was


def test_a_soup_is_the_mean_of_runs_that_differ(inputs, tmp_path):
    told: list[Progress] = []
    final = train(**inputs, out=tmp_path / "out", on_epoch=told.append)
    assert [(one.epoch, one.n_epochs) for one in told] == [(n, 4) for n in (1, 2, 3, 4)]
    one, other = (weights(tmp_path / "out" / f"run-{n}" / "last.pt") for n in (1, 2))
    check_mean(weights(final), one, other)
    assert not one["score.weight"].equal(other["score.weight"])
    seeds = [json.loads(read_checkpoint(p, "")["origin"]["seed"]) for p in sorted(runs(tmp_path))]
    assert seeds == [1, 1001]


def runs(tmp_path):
    return (tmp_path / "out").glob("run-*/last.pt")


def test_a_soup_that_was_stopped_goes_on(inputs, tmp_path):
    def stop(progress: Progress) -> None:
        if progress.epoch == N_EPOCHS + 1:
            raise KeyboardInterrupt

    whole = train(**inputs, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(**inputs, out=tmp_path / "out", on_epoch=stop)
    del inputs["init"]  # it is known from the runs, which have all begun
    final = train(**inputs, out=tmp_path / "out")
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(final)[name], tensor, atol=0, rtol=0)


def test_a_run_that_has_not_begun_wants_its_start(inputs, tmp_path):
    def stop(progress: Progress) -> None:
        if progress.epoch == N_EPOCHS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(**inputs, out=tmp_path / "out", on_epoch=stop)
    del inputs["init"]
    with pytest.raises(BadParameter, match="run-2 has not begun") as told:
        train(**inputs, out=tmp_path / "out")
    assert told.value.remedy == "give --init"


def test_a_cell_is_a_soup(inputs, tmp_path):
    folds = tmp_path / "folds.json"
    write_division(grouped(read_manifest(inputs["manifest"], tmp_path, LABELS), 2), folds)
    del inputs["split"]
    init = tmp_path / "unheard.pt"
    torch.save(read_checkpoint(inputs["init"], "") | {"speakers": []}, init)
    inputs |= {"folds": folds, "results": tmp_path / "results", "runs": tmp_path / "out"}
    (cell,) = cross_validate(**inputs | {"init": init}, only=[0])
    assert cell.is_file()
    assert len(list((tmp_path / "out" / "toy" / "seed-1-fold-0").glob("run-*/last.pt"))) == 2


def test_a_soup_wants_a_start_in_common(tmp_path):
    config = write_config(tmp_path)
    config.write_text(config.read_text() + "soup = 2\n")
    with pytest.raises(BadParameter, match="soup is for pretrained = true"):
        read_experiment(config)
