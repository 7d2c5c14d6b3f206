"""Emotional speech, whatever its release looks like: a manifest, one CSV row a recording."""

from model_export.corpora.audio import load, read
from model_export.corpora.manifest import COLUMNS, Recording, read_manifest, write_manifest
from model_export.corpora.summary import describe, labels_by_corpus, sha256_of

__all__ = [
    "COLUMNS",
    "Recording",
    "describe",
    "labels_by_corpus",
    "load",
    "read",
    "read_manifest",
    "sha256_of",
    "write_manifest",
]
