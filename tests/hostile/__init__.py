"""Broken and hostile files against a real server: `python -m tests.hostile --files 500`."""
