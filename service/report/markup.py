"""HTML and SVG whose text is escaped by construction: only `Markup` is taken as it is."""

from collections.abc import Iterable
from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already. Made by `element` and `joined`; anything else is escaped."""

    __slots__ = ()


Child = str | Iterable[str] | None


def element(tag: str, *children: Child, **attributes: Any) -> Markup:
    """One element. `class_` is `class`, `aria_label` is `aria-label`; `None` is left out."""
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{told}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(map(_text, children)))


def _text(child: Child) -> str:
    match child:
        case None:
            return ""
        case Markup():
            return child
        case str():
            return escape(child)
        case _:
            return "".join(map(_text, child))
