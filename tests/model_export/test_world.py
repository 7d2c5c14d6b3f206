import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.world import World
from tests.model_export.corpus import write_config, write_corpus, write_split

_SCRIPT = """
import sys
from pathlib import Path
from model_export.train import train
root = Path(sys.argv[1])
train(root / "toy.toml", root / "manifest.csv", root, root / "split.json", root / sys.argv[2])
"""


def test_alone_without_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    world = World.of_this_process()
    assert (world.rank, world.size) == (0, 1)
    world.meet()


def test_two_processes_train_one_network_as_well_as_one_does(tmp_path):
    write_corpus(tmp_path)
    write_config(tmp_path, epochs=10, augmented=False, learning_rate=1e-2)
    write_split(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for launcher, out in (([sys.executable], "alone"), (together, "together")):
        done = subprocess.run(
            [*launcher, str(script), str(tmp_path), out],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env=_environment(),
        )
        assert done.returncode == 0, done.stderr
    losses = {}
    for out in ("alone", "together"):
        lines = (tmp_path / out / "log.jsonl").read_text().splitlines()
        assert len(lines) == 10  # only the first process writes
        losses[out] = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines]
    for told in losses.values():
        assert np.mean(told[-3:]) < 0.85 * np.mean(told[:3])
    assert np.mean(losses["together"]) == pytest.approx(np.mean(losses["alone"]), abs=0.15)
    final = torch.load(tmp_path / "together" / "final.pt", weights_only=True)
    assert all(torch.isfinite(weights).all() for weights in final["network"].values())


def _environment() -> dict[str, str]:
    import os

    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
