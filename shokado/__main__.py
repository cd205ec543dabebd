"""`python -m shokado`: the same as the installed `shokado` command."""

from shokado.cli.app import app

app(prog_name="shokado")
