import re

from model_export.ledger import digest
from model_export.report import write_report
from tests.house.repository import ROOT, read, tracked
from tests.model_export.ledgers import share_speakers, write_experiment


def test_the_same_cells_give_the_same_page(tmp_path):
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7, seeds=(1, 2), with_conditions=True)
    write_experiment(tmp_path / "cells", "glam", 0.5, folds=(0, 1))
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written = write_report(tmp_path / "cells", tmp_path / name / "RESULTS.md")
        assert (written.n_cells, written.n_experiments) == (8, 2)
        pages.append(written.path.read_bytes())
    assert pages[0] == pages[1]
    assert b"/tmp" not in pages[0]
    assert str(tmp_path).encode() not in pages[0]


def test_figures_stand_beside_the_page_and_its_links_lead_somewhere(tmp_path):
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7)
    page = write_report(tmp_path / "cells", tmp_path / "RESULTS.md").path.read_text()
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert images
    assert all((tmp_path / image).is_file() for image in images)
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(anchors) == len(headings)
    plain = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
    assert anchors == plain
    assert "*missing*: the figure `k`" in page


def test_no_cells_make_a_page_without_figures(tmp_path):
    (tmp_path / "cells").mkdir()
    page = write_report(tmp_path / "cells", tmp_path / "RESULTS.md").path.read_text()
    assert page.count("No cell yet.") == len(re.findall(r"^## ", page, re.MULTILINE))
    assert "![" not in page


def test_every_experiment_is_somewhere_with_its_config_and_split(tmp_path):
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7)
    write_experiment(tmp_path / "cells", "try-7", 0.7)
    page = write_report(tmp_path / "cells", tmp_path / "RESULTS.md").path.read_text()
    runs = page.split("## What was run")[1]
    for name in ("glrf-bands", "try-7"):
        line = next(line for line in runs.splitlines() if line.startswith(f"| `{name}` |"))
        assert "`55555555`" in line
        assert "2026-01-01 | 2026-01-03 | 3 of 3 folds" in line
    assert "| `try-7` |" in page.split("## Other experiments")[1].split("## What")[0]
    assert "| `drn-mhsa` | DRN-MHSA | *missing* |" in runs


def test_the_page_tells_whose_test_voices_were_learned_from(tmp_path):
    cells = tmp_path / "cells"
    write_experiment(cells, "glrf-bands", 0.7, seeds=(1, 2))
    write_experiment(cells, "try-7", 0.7)
    assert "Not speaker-disjoint" not in write_report(cells, tmp_path / "R.md").path.read_text()
    share_speakers(cells, "try-7")
    page = write_report(cells, tmp_path / "R.md").path.read_text()
    assert "**Not speaker-disjoint**: `try-7`. Their folds" in page


def test_the_page_tells_which_cells_it_was_written_from(tmp_path):
    write_experiment(tmp_path / "cells", "glrf-bands", 0.7)
    page = write_report(tmp_path / "cells", tmp_path / "RESULTS.md").path.read_text()
    assert _origin((tmp_path / "cells").rglob("*.json")) in page.splitlines()


def test_the_committed_page_is_of_the_committed_cells():
    pages = [path for path in tracked() if path == "model_export/RESULTS.md"]
    cells = [
        ROOT / path
        for path in tracked()
        if re.fullmatch(r"model_export/results/[^/]+/seed-\d+-fold-\d+\.json", path)
    ]
    # Remedy: glrf report, and commit cells, page and figures together.
    assert all(_origin(cells) in read(path).splitlines() for path in pages)


def _origin(cells):
    return f"<!-- cells: {digest(cells)} -->"
