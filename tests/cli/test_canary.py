"""The options of `shokado canary`: each command takes those that make a difference to it, and no other."""

import pytest
import typer

from shokado.cli.canary import app

ADDRESSED = ["--url", "--environment", "--key-file"]
JUDGED = [*ADDRESSED, "--policy", "--prometheus", "--selector"]
OPTIONS = {
    "start": [*ADDRESSED, "--policy", "--force"],
    "step": [*JUDGED, "--force"],
    "promote": [*JUDGED, "--force"],
    "abort": [*ADDRESSED, "--why"],
    "status": JUDGED,
    "run": [*JUDGED, "--force"],
}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_all_commands_are_known() -> None:
    assert set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_takes_its_options(name: str) -> None:
    options = [one.opts[0] for one in COMMANDS[name].params if one.param_type_name == "option"]
    arguments = [one.name for one in COMMANDS[name].params if one.param_type_name == "argument"]
    assert options == OPTIONS[name]
    assert arguments == (["version"] if name in {"start", "run"} else [])
