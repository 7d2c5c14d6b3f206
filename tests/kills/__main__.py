"""The full size of the jobs' kill test: `python -m tests.kills [--postgres]`."""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from tests.kills.postgres import postgres
from tests.kills.trial import Trial
from tests.synthetic import write_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--postgres", action="store_true", help="else SQLite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres()) if options.postgres else None
        (folder / "models").mkdir()
        write_model(folder / "models" / "tiny.onnx")

        async def run() -> Trial:
            trial = Trial(
                folder / "jobs",
                n_jobs=options.jobs,
                n_kills=options.kills,
                url=url,
                seed=options.seed,
                model_dir=folder / "models",
            )
            await trial.run()
            return trial

        report = asyncio.run(run()).report
    print("\n".join([*report.lines(), *report.differences[:10]]))
    print(f"{time.monotonic() - began_s:.0f} s on {'PostgreSQL' if options.postgres else 'SQLite'}")
    if not report.is_good:
        sys.exit(1)


if __name__ == "__main__":
    main()
