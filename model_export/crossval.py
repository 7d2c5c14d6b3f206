"""Cross-validation: an experiment trained and assessed on every fold, a result cell each."""

import contextlib
import datetime as dt
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from model_export.baselines import MachineConfig, assess_machine
from model_export.cells import Cell, SegmentLogits, cell_path, read_cells, write_cell
from model_export.conditions import BABBLE, Condition, condition
from model_export.corpora import Recording, labels_by_corpus, read_manifest, sha256_of
from model_export.evaluation import (
    disturbing,
    logits_of,
    metrics_by_corpus,
    report,
    score_recording,
)
from model_export.experiment import Experiment, read_experiment
from model_export.fitting import Task, fit
from model_export.network import describe, scorer, served
from model_export.splits import Folds, read_folds
from model_export.start import check_started, read_start, sha256_of_start, start_from
from model_export.teacher import prepare, read_embeddings
from ser_core.errors import BadParameter
from ser_core.events import Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidation:
    """What every cell of one call shares, as it was when the call began."""

    experiment: Experiment
    config_sha256: str
    split: Folds
    manifest: Path
    data: Path
    results: Path
    runs: Path
    code: str
    teacher: Path | None = None
    init: Path | None = None
    conditions: tuple[str, ...] = ()


def cross_validate(
    config: Path,
    manifest: Path,
    data: Path,
    folds: Path,
    results: Path,
    *,
    runs: Path,
    seeds: Sequence[int] = (1,),
    only: Iterable[int] | None = None,
    teacher: Path | None = None,
    init: Path | None = None,
    conditions: Sequence[str] = (),
    n_jobs: int = 1,
    on_cell: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Makes the cells that are missing below `results`, and returns all that were asked for.

    `seeds` take the place of the config's own; `only` names folds, all by default. `runs` holds
    checkpoints, from which a cell that was stopped goes on. `init` is a finished checkpoint whose
    weights are every cell's start. `conditions` (see `model_export.conditions`; babble is of the
    fold's train speakers) disturb the test recordings, after they were assessed as they are.
    `n_jobs` cells are made side by side, a process each; `on_cell` hears how many are done.

    Raises `BadParameter` for what cannot be used, and for a cell that is there and was made with
    another config, other folds or conditions, other recordings or labels, another teacher or start;
    and for a start that does not fit, or has heard a test speaker.
    """
    experiment, config_sha256 = read_experiment(config)
    seeds = tuple(dict.fromkeys(seeds))
    if seeds and min(seeds) < 0:
        raise BadParameter(f"there is no seed {min(seeds)}", remedy="give seeds from 0 on")
    for name in conditions:
        if name != BABBLE:  # which has voices in a fold only
            condition(name)  # a wrong name is told before hours of training, not after
    split = read_folds(folds)
    job = CrossValidation(
        experiment,
        config_sha256,
        split,
        manifest,
        data,
        results,
        runs,
        _code(),
        teacher,
        init,
        tuple(conditions),
    )
    chosen = range(split.n_folds) if only is None else sorted(set(only))
    wanted = [(seed, fold) for seed in seeds for fold in chosen]
    paths = [cell_path(results, experiment.name, seed, fold) for seed, fold in wanted]
    missing = [pair for pair, path in zip(wanted, paths, strict=True) if not path.is_file()]
    done = {(cell.seed, cell.fold): cell for cell in read_cells(results, experiment.name)}
    asked = () if isinstance(experiment.network, MachineConfig) else conditions
    there = [done[pair] for pair in wanted if pair in done]
    data_sha256 = ""
    if missing or any(cell.data_sha256 for cell in there):
        recordings = read_manifest(manifest, data, experiment.labels)
        known = [*chain(*split.select(recordings, wanted[0][1]))]  # the same for each fold
        data_sha256 = _data_sha256(experiment, known, job)
        if missing:
            _warn_of_difference(split, recordings)
    for cell in there:
        _check_same(cell, config_sha256, split.sha256, data_sha256, asked)
    n_done = len(wanted) - len(missing)

    def tell() -> None:
        if on_cell is not None:
            on_cell(n_done, len(wanted))

    def made() -> None:
        nonlocal n_done
        n_done += 1
        tell()

    tell()
    if n_jobs == 1 or len(missing) < 2:
        for seed, fold in missing:
            make_cell(job, seed, fold)
            made()
    else:
        _make_side_by_side(job, missing, n_jobs, made)
    return paths


def _make_side_by_side(
    job: CrossValidation, missing: list[tuple[int, int]], n_jobs: int, done: Callable[[], None]
) -> None:
    """Makes the cells of these seeds and folds, a process each; `done` hears of each.

    The first error is raised once all others are made.
    """
    with (
        _on_ctrl_c(_end_processes),
        ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool,
    ):
        with _on_ctrl_c(signal.SIG_IGN):  # as the processes go on to have it from their start
            futures = [pool.submit(make_cell, job, seed, fold) for seed, fold in missing]
        for future in as_completed(futures):
            if (error := future.exception()) is not None:
                log.error("a cell failed, and the others are made first: %s", error)
            future.result()
            done()


@contextlib.contextmanager
def _on_ctrl_c(handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    """What SIGINT does meanwhile, unless it is ignored, as in a shell's background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_processes(*_: object) -> None:
    """Ends them wherever they are: the pool would finish all cells first."""
    for process in active_children():
        process.terminate()
    raise KeyboardInterrupt


def _warn_of_difference(split: Folds, recordings: list[Recording]) -> None:
    """Where folds and manifest do not have the same speakers, or recordings."""
    for units, what in (
        (split.others(recordings), "left out, as the folds do not have it"),
        (split.missing(recordings), "the folds' results are without what the manifest has not"),
    ):
        if units:
            names = ", ".join(" ".join(unit) for unit in units[:8])
            log.warning("%s: %d (%s)", what, len(units), names)


def _data_sha256(experiment: Experiment, known: list[Recording], job: CrossValidation) -> str:
    """Of what the folds learn from and are tested on: `Cell.data_sha256`."""
    ordered = sorted(known, key=lambda one: (one.corpus, one.name))
    distil = experiment.distillation
    is_taught = distil.posterior or distil.embedding
    said = read_embeddings(job.teacher) if is_taught and job.teacher is not None else {}
    taught = [said[one.name].tobytes() for one in ordered if one.name in said]
    start = [] if job.init is None else [sha256_of_start(job.init).encode()]
    return sha256_of(ordered, *taught, *start)


def _check_same(cell: Cell, config: str, split: str, data: str, conditions: Sequence[str]) -> None:
    """Raises `BadParameter` for a cell that is there and answers another question."""
    other = [
        what
        for what, differs in (
            ("config", cell.config_sha256 != config),
            ("folds", cell.split_sha256 != split),
            ("recordings, labels, teacher or start", cell.data_sha256 not in ("", data)),
            ("conditions", not set(conditions) <= set(cell.conditions)),
        )
        if differs
    ]
    if other:
        raise BadParameter(
            f"{cell.experiment}, seed {cell.seed}, fold {cell.fold} is there already, "
            f"made with other {' and '.join(other)}",
            remedy="give another --results, name the experiment anew, or delete the cell",
        )


def make_cell(job: CrossValidation, seed: int, fold: int) -> Path:
    """Trains on all other folds with `seed`, assesses on `fold`, and writes the cell."""
    began_s = time.monotonic()
    experiment, config_sha256, split = job.experiment, job.config_sha256, job.split
    recordings = read_manifest(job.manifest, job.data, experiment.labels)
    train, test = split.select(recordings, fold)
    corpora = labels_by_corpus(train + test, experiment.labels)
    if isinstance(experiment.network, MachineConfig):
        found = _with_machine(job, experiment, experiment.network, train, test, corpora)
    else:
        origin: dict[str, Any] = {
            "config_sha256": config_sha256,
            "split_sha256": split.sha256,
            "fold": str(fold),
        }
        if job.init is not None:
            unheard = {one.speaker_key for one in test}
            origin |= read_start(job.init, experiment, unheard)
        check_started(experiment, origin)
        lesson = None
        if job.teacher is not None:
            lesson = prepare(read_embeddings(job.teacher), train, experiment.labels)
        task = Task(experiment, seed, train, lesson=lesson, origin=origin)
        found = _with_network(job, task, test, corpora, f"seed-{seed}-fold-{fold}")
    cell = Cell(
        experiment=experiment.name,
        seed=seed,
        fold=fold,
        n_folds=split.n_folds,
        config_sha256=config_sha256,
        split_sha256=split.sha256,
        code=job.code,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        duration_s=round(time.monotonic() - began_s, 1),
        model=found.model,
        metrics=found.metrics,
        conditions=found.conditions,
        data_sha256=_data_sha256(experiment, train + test, job),
        init_sha256=None if job.init is None else sha256_of_start(job.init),
    )
    return write_cell(job.results, cell, found.logits)


@dataclass(frozen=True)
class _Found:
    """What a cell says of its model, and of the test fold."""

    model: dict[str, Any]
    metrics: dict[str, Any]
    conditions: dict[str, Any]
    logits: SegmentLogits | None


def _with_network(
    job: CrossValidation,
    task: Task,
    test: list[Recording],
    labels: Mapping[str, tuple[str, ...]],
    run: str,
) -> _Found:
    experiment = task.experiment
    disturbed = disturbing(job.conditions, task.train, test)
    start = None if job.init is None else partial(start_from, job.init)
    network = fit(task, job.runs / experiment.name / run, start=start)
    network = served(network, experiment.loss.kind)
    spec, score = experiment.untrained_spec(), scorer(network)

    def scored(under: Condition | None = None) -> list[tuple[Recording, list[Segment]]]:
        return [(one, score_recording(one, spec, score, under)) for one in test]

    clean = scored()
    kept = ("ua", "wa", "pure_acc", "n")
    conditions: dict[str, Any] = {}
    for name, under in disturbed.items():
        corpora = report(scored(under), labels)["corpora"]
        conditions[name] = {
            corpus: {key: metrics[key] for key in kept} for corpus, metrics in corpora.items()
        }
    return _Found(
        dict(describe(network)),
        report(clean, labels),
        conditions,
        logits_of(clean, experiment.labels),
    )


def _with_machine(
    job: CrossValidation,
    experiment: Experiment,
    machine: MachineConfig,
    train: list[Recording],
    test: list[Recording],
    labels: Mapping[str, tuple[str, ...]],
) -> _Found:
    features, cache = experiment.features.spec(), job.runs / "vectors"
    assessed, description = assess_machine(machine, features, train, test, labels, cache=cache)
    return _Found(dict(description), metrics_by_corpus(test, assessed, labels), {}, None)


def _code() -> str:
    """The commit that made the cell, "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
