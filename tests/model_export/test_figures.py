import re
import xml.etree.ElementTree as ET  # our own files
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from model_export import figures
from model_export.ledger import Ledger, read_ledger
from tests.model_export.ledgers import write_experiment

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    write_experiment(tmp_path, "glrf-bands", 0.7, with_conditions=True)
    write_experiment(tmp_path, "aa-cnn", 0.8)
    write_experiment(tmp_path, "glrf", 0.7)
    write_experiment(tmp_path, "glrf-k10", 0.6)
    return read_ledger(tmp_path)


def texts(path: Path) -> list[str]:
    found = ET.parse(path).iter(f"{SVG}text")
    return ["".join(element.itertext()).strip() for element in found]


def test_the_same_cells_give_the_same_bytes_without_a_date(tmp_path, ledger):
    for name in ("one", "two"):
        assert set(figures.draw(ledger, tmp_path / name)) == {
            "confusion", "pure-accuracy", "k", "conditions", "reliability",
        }  # fmt: skip
    for path in (tmp_path / "one").iterdir():
        content = path.read_bytes()
        assert content == (tmp_path / "two" / path.name).read_bytes()
        assert b"dc:date" not in content
        assert mpl.__version__.encode() not in content


def test_figures_hold_text_a_title_and_a_light_ground(tmp_path, ledger):
    pictures = figures.draw(ledger, tmp_path / "figures")
    for picture in pictures.values():
        path = tmp_path / "figures" / picture.file
        assert "nemo" in " ".join(texts(path))
        content = path.read_text()
        assert f"<dc:title>{picture.caption.replace(chr(38), '&amp;')}</dc:title>" in content
        first = re.search(r'<g id="patch_1">.*?fill: (#\w+)', content, re.DOTALL)
        assert first is not None
        assert first[1] == figures.GROUND


def test_the_confusion_figure_sets_us_beside_the_best_peer(tmp_path, ledger):
    figures.draw(ledger, tmp_path / "figures")
    found = texts(tmp_path / "figures/confusion.svg")
    assert {
        "GLRF (our stem) on nemo",
        "AA-CNN on nemo",
        "GLRF (our stem) on mine",
        "AA-CNN on mine",
    } <= set(found)
    rows = np.array([int(text) for text in found if text.isdigit()][:9]).reshape(3, 3)
    assert rows.sum(axis=1) == pytest.approx(100, abs=2)


def test_the_k_curve_says_what_is_missing(tmp_path, ledger):
    pictures = figures.draw(ledger, tmp_path / "figures")
    assert pictures["k"].caption.endswith("missing: k = 30, 50, 90, 100")


def test_noise_and_codec_have_their_panels(tmp_path, ledger):
    figures.draw(ledger, tmp_path / "figures")
    found = texts(tmp_path / "figures/conditions.svg")
    assert {"mulaw-8k", "opus-12k", "clean", "nemo, car", "nemo, babble"} <= set(found)
    assert "car-10db" not in found


def test_a_figure_without_cells_is_not_drawn_and_an_old_one_goes(tmp_path, ledger):
    folder = tmp_path / "figures"
    figures.draw(ledger, folder)
    assert (folder / "k.svg").exists()
    ours = Ledger(ledger.folder, {"glrf-bands": ledger.of("glrf-bands")})
    assert figures.draw(ours, folder).keys() == {
        "confusion", "pure-accuracy", "conditions", "reliability",
    }  # fmt: skip
    assert not (folder / "k.svg").exists()
    assert figures.draw(Ledger(ledger.folder, {}), folder) == {}


def contrast(one: str, other: str) -> float:
    low, high = sorted(figures.relative_luminance(to_rgb(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_wcag_asks_for():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast(figures.INK, figures.GROUND) >= 4.5
    assert all(contrast(colour, figures.GROUND) >= 3 for colour in figures.COLOURS)
    for share in np.linspace(0, 1, 21):
        ground = mpl.colormaps["Blues"](float(share))[:3]
        assert contrast(figures.ink_on(ground), to_hex(ground)) >= 4.5


def test_series_differ_in_more_than_colour():
    for signs in (figures.COLOURS, figures.MARKERS, figures.HATCHES):
        assert len(set(signs)) == len(signs) == 6
