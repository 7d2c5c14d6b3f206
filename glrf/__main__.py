"""`python -m glrf` is `glrf`."""

from glrf.main import app

app(prog_name="glrf")
