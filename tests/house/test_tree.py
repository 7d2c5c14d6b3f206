"""The tree in README.md is the real one."""

import pytest

from tests.house import tree
from tests.house.repository import read

README = """# x
<!-- tree -->

```text
ser_core/            what the numbers mean
  decode.py          bytes to samples
  session.py
service/
├── app.py           the application
└── inference/       behind one door
    └── onnx.py      the door
docs/protocol.md     the contract
```
"""


def test_every_python_file_has_a_line_that_says_what_it_is():
    assert tree.missing(tree.described(read("README.md"))) == []


def test_every_line_is_of_a_file_that_is_there():
    assert tree.stale(tree.described(read("README.md"))) == []


def test_a_tree_is_read_with_spaces_or_box_drawing():
    assert tree.described(README) == {
        "ser_core": "what the numbers mean",
        "ser_core/decode.py": "bytes to samples",
        "ser_core/session.py": "",
        "service": "",
        "service/app.py": "the application",
        "service/inference": "behind one door",
        "service/inference/onnx.py": "the door",
        "docs/protocol.md": "the contract",
    }


def test_a_line_without_words_counts_as_missing():
    entries = tree.described(README)
    assert "ser_core/session.py" in tree.missing(entries)
    assert "ser_core/decode.py" not in tree.missing(entries)


def test_a_file_that_is_gone_is_noticed():
    assert tree.stale({"ser_core/decode.py": "x", "ser_core/gone.py": "x"}) == ["ser_core/gone.py"]


@pytest.mark.parametrize("readme", ["# x\n", "<!-- tree -->\nno block\n", README * 2 + "```\n"])
def test_only_the_block_after_the_marker_is_the_tree(readme: str):
    if readme.startswith(README):
        assert tree.described(readme) == tree.described(README)
    else:
        with pytest.raises(tree.TreeError, match="no fenced block"):
            tree.described(readme)


def test_the_drawn_tree_lacks_nothing():
    entries = {"ser_core": "kept as it is", "ser_core/gone.py": "x"}
    drawn = tree.described(f"{tree.MARKER}\n```\n{tree.drawn(entries)}\n```\n")
    assert set(drawn) == set(tree.expected())
    assert drawn["ser_core"] == "kept as it is"
