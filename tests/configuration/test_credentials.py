"""Credentials: in whatever spelling and place, they are not shown."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.credentials import check_credentials, without_credentials
from configuration.settings import SettingsError, load_settings
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.lifecycle.rollout.prometheus import Prometheus
from shokado.stores.machine import Machine
from shokado.stores.opening import open_store
from shokado.stores.store import StoreUnavailable
from shokado.worker.versions.fetching import FetchFailed, fetch

SPELLINGS = (
    "s3cret",
    ":s3cret",
    "s3cret:",
    "s3cret:s3cret",
    "s3cret@s3cret",
    "s3cret:s3cret@s3cret",
    ":@s3cret",
    "s3cret:s3cret/s3cret",
    "s3cret:s3cret?s3cret",
    "s3cret:s3cret#s3cret",
    "s3cret:s3cret s3cret",
    "s3cret:s3cret%40s3cret",
    "s3cret:[s3cret",
)
"""Of what stands between `//` and the last `@`."""
SECRETS = re.compile("s3cret")


@pytest.mark.parametrize("credentials", [spelling for spelling in SPELLINGS if " " not in spelling])
@pytest.mark.parametrize(
    "words", ["{}", "cannot reach {}: is it running?", "'{}'", '"{}" and <{}>', "curl {}/readyz", "({})"]
)
def test_of_any_text_with_addresses(credentials: str, words: str) -> None:
    assert without_credentials(words.replace("{}", f"http://{credentials}@host:80/path")) == words.replace(
        "{}", "http://***@host:80/path"
    )


@pytest.mark.parametrize(
    "words",
    [
        "models:/customers@champion is no model of http://host:80/path",
        "sqlite:////home/me@work/var/mlflow.db",
        "file:///home/me@work/mlruns",
        "write to me@example.com",
        "a // b",
        "",
    ],
)
def test_what_has_none_stays_as_it_is(words: str) -> None:
    assert without_credentials(words) == words


@pytest.mark.parametrize("credentials", SPELLINGS)
def test_parts_of_what_the_environment_knows_are_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:
    """As libraries repeat what they could not read of an address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{credentials}@host")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://pip-user@one/simple https://two/simple")
    words = (
        "Port could not be cast to integer value as 's3cret'; no host s3cret@host; pip-user; two hosts at https://two"
    )
    assert without_credentials(words) == (
        "Port could not be cast to integer value as '***'; no host ***@host; ***; two hosts at https://two"
    )


@pytest.mark.parametrize("address", ["http:{}@host/path", "http:/{}@host/path", "{}@host/path"])
@pytest.mark.parametrize("credentials", [spelling for spelling in SPELLINGS if ":" in spelling])
def test_slashes_that_are_missing_show_nothing(monkeypatch: pytest.MonkeyPatch, address: str, credentials: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(credentials))
    shown = without_credentials(f"nothing at {address.format(credentials)}")
    assert not SECRETS.search(shown), shown
    assert shown.endswith("@host/path")


@given(st.text(alphabet="s3cret:@/?#%.-", min_size=1, max_size=20))
def test_nothing_before_the_last_at_sign_is_left(credentials: str) -> None:
    shown = without_credentials(f"error at http://x{credentials}@host/path?a=b.")
    assert shown.endswith("@host/path?a=b.")
    assert "s" not in shown.removeprefix("error at http:").removesuffix("@host/path?a=b.")


@pytest.mark.parametrize("credentials", SPELLINGS)
def test_settings_and_stores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, credentials: str) -> None:
    """Either the address is refused, or the store is named without them; in no case they are seen."""
    address = f"redis://{credentials}@127.0.0.1:9/0"
    said = []
    for variable in ("SHOKADO_STORE", "SHOKADO_CACHE__URL", "SHOKADO_ACCESS__RATES__URL"):
        with monkeypatch.context() as changed:
            changed.setenv(variable, address)
            try:
                load_settings()
            except SettingsError as error:
                said.append(str(error))
    try:
        store = open_store(address, "paper", tmp_path)
    except ValueError as error:
        said.append(str(error))
    else:
        said.append(store.name)
        with pytest.raises(StoreUnavailable) as away:
            store.position()
        said.append(str(away.value))
    assert not SECRETS.search(" ".join(said)), said
    if re.search(r"[/?#[]", credentials):
        assert [("written as %40" in words) for words in said[:3]] == [True] * 3
    else:
        assert said[0] == "redis://127.0.0.1:9/0"


@pytest.mark.parametrize("variable", ["SHOKADO_CACHE", "SHOKADO_ACCESS__CORS__ORIGINS"])
def test_a_variable_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "redis://:s3cret@host")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "redis://***@host" in str(refused.value)


def test_paths_of_files_may_have_an_at_sign() -> None:
    assert check_credentials("sqlite:////home/me@work/routing.db")


def test_the_command_line_and_what_asks_others() -> None:
    address = "http://s3cret:s3cret@127.0.0.1:9"
    with pytest.raises(LifecycleError) as gateway_away, GatewayClient(address, None, None, "me") as gateway:
        gateway.routing()
    with pytest.raises(LifecycleError) as prometheus_away:
        Prometheus(address).observed("v1", 60)
    for away in (gateway_away, prometheus_away):
        assert "http://***@127.0.0.1:9" in str(away.value)
        assert not SECRETS.search(f"{away.value} {away.value.next_command}")


@pytest.mark.slow
def test_a_load_from_a_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this says, `/v1/models`, the log and the answer to the load say."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://s3cret:s3cret@s3cret@127.0.0.1:9")
    with pytest.raises(FetchFailed, match="does not answer") as failed:
        asyncio.run(fetch(Machine(tmp_path), "models:/paper/1", "v1", "paper", 60, 2**32))
    assert not SECRETS.search(str(failed.value))
