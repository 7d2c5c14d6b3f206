"""The table in the making: a part a chunk, each written whole or not at all; then all in one."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glrf.batch.archive import Chunk
from glrf.batch.rows import Row
from ser_core.errors import BadParameter


class Parts:
    """Parts of `out` in the folder `out.parts` beside it, for as long as the run is not done.

    `plan` is what the numbers depend on. Raises `BadParameter` where the folder holds parts of
    another plan: they would not fit together.
    """

    def __init__(self, out: Path, schema: pa.Schema, plan: dict[str, Any]) -> None:
        self._out = out
        self._folder = out.with_name(out.name + ".parts")
        text = json.dumps(plan, sort_keys=True)
        self._schema = schema.with_metadata({"glrf": text})
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = self._folder / "plan.json"
        if kept.exists() and kept.read_text(encoding="utf-8") != text:
            raise BadParameter(
                f"{self._folder} is of a run with another archive, model or options",
                remedy="remove that folder to begin anew, or give another --out",
            )
        _write(kept, lambda path: path.write_text(text, encoding="utf-8"))

    def is_done(self, chunk: Chunk) -> bool:
        """Whether its part was written."""
        return self._part(chunk).exists()

    def write(self, chunk: Chunk, rows: Sequence[Row]) -> None:
        """Writes its part."""
        table = pa.Table.from_pylist(list(rows), self._schema)
        _write(self._part(chunk), lambda path: pq.write_table(table, path))

    def join(self, chunks: Sequence[Chunk]) -> tuple[int, Counter[str]]:
        """All parts to one table in the archive's order; how many rows, and what failed how often.

        Memory is bounded by the largest part.
        """
        n_rows = 0
        failed: Counter[str] = Counter()

        def all_parts(path: Path) -> None:
            nonlocal n_rows
            with pq.ParquetWriter(path, self._schema) as writer:
                for chunk in chunks:
                    part = pq.read_table(self._part(chunk))
                    writer.write_table(part)
                    n_rows += part.num_rows
                    failed.update(filter(None, part["error"].to_pylist()))

        _write(self._out, all_parts)
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()
        return n_rows, failed

    def _part(self, chunk: Chunk) -> Path:
        return self._folder / f"{chunk.number:08d}.parquet"


def _write(path: Path, how: Any) -> None:
    """Whole or not at all: a killed run leaves no half of a file."""
    fresh = path.with_name(path.name + ".new")
    how(fresh)
    fresh.replace(path)
