"""How recordings are scored: the options of `glrf analyze` and `glrf batch`, as a `FileQuery`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from service.requests import FileQuery

Model = Annotated[
    str | None, typer.Option(help="`name` or `name@version`, of the models in the folder.")
]
Endpointing = Annotated[
    Literal["vad", "manual", "off"],
    typer.Option(help="vad: cut where speech ends. manual, off: the file is one utterance."),
]
EndpointSilence = Annotated[
    int | None, typer.Option(help="With vad: silence that ends an utterance. Default: 700.")
]
Smoothing = Annotated[str | None, typer.Option(help="mean, ema or viterbi. Default: viterbi.")]
Hysteresis = Annotated[
    float | None,
    typer.Option(help="Lead that another label needs, 0 to 1. Default: the smoothing's own."),
]
MinDwell = Annotated[
    int | None,
    typer.Option(help="Least time between two labels. Default: the smoothing's own."),
]
Baseline = Annotated[
    int | None,
    typer.Option(
        help="So much speech at first is each speaker's neutral voice, and what follows is "
        "scored relative to it. Default: none."
    ),
]
Partial = Annotated[
    bool, typer.Option(help="Tell segments shorter than 2 s while an utterance starts.")
]


def query_of(**given: object) -> "FileQuery":
    """What was given; `None` is the default. Raises `BadParameter`."""
    from service.requests import FileQuery

    asked = {name: value for name, value in given.items() if value is not None}
    query = FileQuery.model_validate(asked)
    query.check()
    return query
