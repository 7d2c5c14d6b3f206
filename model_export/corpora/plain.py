"""Plain speech: words and phrases that volunteers read for two drawing games.

    tuxpaint/stamps/animals/birds/duck_desc_fr.ogg
    ktuberling/sounds/fr/hat.wav

As Debian's packages `tuxpaint-stamps-default` and `ktuberling-data` (GPL-2) put them into
`/usr/share`, in some 25 languages. Nobody acts an emotion there: what a model hears but neutral is
a false alarm. The games name no speakers: one is assumed for each language of each game.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release

#: A description without a language is in English.
_STAMP = re.compile(r".+_desc(_(?P<language>[a-z]{2,3}(_[A-Z]{2})?))?(\.ogg)+")
_SUFFIXES = (".ogg", ".opus", ".wav")


def find(root: Path) -> Iterator[Found | Problem]:
    for path in sorted(root.glob("tuxpaint/stamps/**/*_desc*.ogg")):
        name = _STAMP.fullmatch(path.name)
        if name is None:
            yield Problem(str(path), "not named WORD_desc_LANGUAGE.ogg")
        else:
            yield _plain(path, f"tuxpaint-{name['language'] or 'en'}")
    for path in sorted(root.glob("ktuberling/sounds/*/*")):
        if path.suffix in _SUFFIXES:
            yield _plain(path, f"ktuberling-{path.parent.name}")


def _plain(path: Path, speaker: str) -> Found:
    return Found(path, speaker, "", "plain", "neutral", str(path))


RELEASE = Release(
    "tuxpaint/stamps/**/WORD_desc_LANGUAGE.ogg or ktuberling/sounds/LANGUAGE/WORD.ogg", find
)
