"""Base of all objects that are sent: made here from what is known, so nothing is coerced."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An object of the wire."""

    model_config = ConfigDict(frozen=True)
