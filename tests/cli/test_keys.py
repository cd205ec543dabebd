"""`shokado keys` as it is typed."""

from pathlib import Path

from typer.testing import CliRunner

from shokado.access.keys import digest_of, read_keys
from shokado.cli.app import app

runner = CliRunner()


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "new" / "keys.yaml"
    where = ["--file", str(file)]
    made = runner.invoke(app, ["keys", "create", "--name", "ci", "--role", "predict", *where])
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert read_keys(file).find(digest_of(secret.encode())) is not None, "the key alone is on standard output"
    listed = runner.invoke(app, ["keys", "list", *where])
    assert listed.stdout.startswith("ci  predict  sha256:")
    assert secret not in listed.output
    assert runner.invoke(app, ["keys", "revoke", "ci", *where]).exit_code == 0
    assert read_keys(file).keys == ()


def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path) -> None:
    where = ["--file", str(tmp_path / "keys.yaml")]
    for command in (["list"], ["revoke", "ci"], ["create", "--name", "No", "--role", "admin"]):
        result = runner.invoke(app, ["keys", *command, *where])
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert runner.invoke(app, ["keys", "create", "--name", "a", "--role", "root", *where]).exit_code == 2


def test_the_file_is_the_one_that_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    environment = {"SHOKADO_ACCESS__KEYS_FILE": str(file)}
    made = runner.invoke(app, ["keys", "create", "--name", "ci", "--role", "admin"], env=environment)
    assert made.exit_code == 0
    assert [key.name for key in read_keys(file).keys] == ["ci"]
    assert "next:" not in made.stderr
