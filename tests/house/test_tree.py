"""The tree in README.md is the real one."""

from tests.house import tree
from tests.house.repository import ROOT, read


def test_every_file_says_what_it_is():
    assert [path for path, text in tree.described().items() if not text] == []


def test_the_folders_that_cannot_say_it_are_there():
    assert [path for path in tree.FOLDERS if not (ROOT / path).is_dir()] == []


def test_the_readme_shows_the_tree_as_it_is():
    # Remedy: python -m tests.house.tree --write
    assert tree.block(read("README.md")) == tree.drawn()
