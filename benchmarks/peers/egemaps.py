"""eGeMAPSv02 functionals of 2 s windows by openSMILE, alone: `python -m benchmarks.peers.egemaps`.

What a recogniser on hand-made features spends before it has a score.
"""

import opensmile  # pyright: ignore[reportMissingImports]  (of the peers' own environment)

from benchmarks.peers.bare import measure
from model_export.functionals import egemaps

if __name__ == "__main__":
    measure(egemaps(opensmile).of)
