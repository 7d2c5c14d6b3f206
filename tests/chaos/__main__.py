"""The full size of the kill test: `python -m tests.chaos --streams 40 --kills 50`."""

import argparse
import sys

import uvloop

from tests.chaos.trial import Trial

#: After the connection was lost, while a replica is ready.
P99_LIMIT_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--duration-s", type=float, default=60.0, help="of the long recordings")
    parser.add_argument("--fault-every-s", type=float, default=1.0)
    parser.add_argument(
        "--pause-s", type=float, default=1.25, help="mean time from ready again to the next kill"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    async def run() -> Trial:
        trial = Trial(
            n_streams=options.streams,
            n_kills=options.kills,
            duration_s=options.duration_s,
            fault_every_s=options.fault_every_s,
            pause_s=options.pause_s,
            seed=options.seed,
        )
        await trial.run()
        return trial

    report = uvloop.run(run()).report  # clients and proxy are to leave the cores to the replicas
    print("\n".join([*report.lines(), *report.differences[:10]]))
    if report.differences or report.p99_s > P99_LIMIT_S:
        sys.exit(1)


if __name__ == "__main__":
    main()
