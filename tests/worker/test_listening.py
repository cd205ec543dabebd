"""What `bentoml serve` is told of host and port, by BentoML's own command line: one line where it cannot be meant."""

import re

import click
import pytest
from bentoml_cli.cli import cli

from configuration.settings import GrpcSettings
from shokado.worker.listening import refuse_unfit_address

BOTH_AT = GrpcSettings(port=3001)


def listen(*told: str) -> None:
    assert isinstance(cli, click.Group)
    with cli.commands["serve"].make_context("serve", ["service:Shokado", *told]):
        refuse_unfit_address(BOTH_AT)


@pytest.mark.parametrize("told", [(), ("--port", "1"), ("-p", "65535", "--host", "0.0.0.0"), ("--host", "::1")])
def test_what_can_be_listened_at(told: tuple[str, ...]) -> None:
    listen(*told)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("--port", "80000"), "--port 80000: a port is a number from 1 to 65535"),
        (("--port", "0"), "--port 0: a port is a number from 1 to 65535"),
        (("--port", "-1"), "--port -1: a port is a number from 1 to 65535"),
        (("--port", "3001"), "--port 3001: grpc.port is 3001 too; name another one for either"),
        (("--host", "localhost"), "--host localhost: name an address, such as 127.0.0.1 or 0.0.0.0"),
    ],
)
def test_what_cannot(told: tuple[str, ...], said: str) -> None:
    with pytest.raises(SystemExit, match=f"^{re.escape(f'shokado: {said}')}$"):
        listen(*told)


def test_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_PORT", "80000")
    with pytest.raises(SystemExit, match=r"^shokado: BENTOML_PORT: 80000: a port"):
        listen()
    monkeypatch.setenv("BENTOML_HOST", "localhost")
    with pytest.raises(SystemExit, match=r"^shokado: BENTOML_HOST: localhost: name an address"):
        listen()


def test_elsewhere_than_in_that_command_there_is_nothing_to_refuse() -> None:
    refuse_unfit_address(BOTH_AT)
