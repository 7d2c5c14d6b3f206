"""Hostile files against a real server: counts as Markdown, and status 1 where one was a fault.

python -m tests.hostile --files 500 --seed 1
"""

import argparse
import sys

from tests.hostile.files import hostile_files
from tests.hostile.trial import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Broken and hostile files against a real server.")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    findings = run(hostile_files(given.files, given.seed))
    slow = findings.slowest
    print(
        "| files | answers | faults | slowest | a decoder's CPU time, memory at most "
        "| the server's memory |\n| --- | --- | --- | --- | --- | --- |\n"
        f"| {len(findings.answers)}, seed {given.seed} "
        f"| {', '.join(f'{n} {kind}' for kind, n in findings.counts.most_common())} "
        f"| {len(findings.faults)} | {slow.took_s:.1f} s ({slow.name}) "
        f"| {findings.decoder_cpu_s} s, {findings.decoder_peak_mb} MB "
        f"({findings.n_decoders} decoders) "
        f"| {findings.server_early_mb:.0f} MB after 20 files, "
        f"{findings.server_peak_mb:.0f} at most |"
    )
    for fault in findings.faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if findings.faults else 0)


if __name__ == "__main__":
    main()
