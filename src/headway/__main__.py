"""`python -m headway` is `headway`."""

from headway.cli.main import app

app(prog_name="headway")
