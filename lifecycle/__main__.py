"""`python -m lifecycle`: the same as the installed `shokado` command."""

from lifecycle.cli import app

app(prog_name="shokado")
