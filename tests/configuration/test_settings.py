"""Settings: what is accepted, what the environment overrides, and the line that each mistake gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from configuration.cpus import available_cpus
from configuration.settings import (
    DEFAULT_FILE,
    BatchingSettings,
    CacheBackend,
    EngineChoice,
    LimitSettings,
    Placement,
    Settings,
    SettingsError,
    Strategy,
    load_settings,
)

Content = dict[str, Any]
Edit = Callable[[Content], object]


def valid_content() -> Content:
    return {
        "model": "paper",
        "versions": {"v1": {"aliases": ["a"]}, "v2": None},
        "environments": {"production": {"active": "v1", "weights": {"v1": 80, "v2": 20}}},
    }


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `SHOKADO_CONFIG` names; valid until a test edits it."""
    path = tmp_path / "serving.yaml"
    path.write_text(yaml.safe_dump(valid_content()))
    monkeypatch.setenv("SHOKADO_CONFIG", str(path))
    return path


def edit(file: Path, change: Edit) -> None:
    content = valid_content()
    change(content)
    file.write_text(yaml.safe_dump(content))


def refusal() -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


def test_access_is_checked_by_key(file: Path) -> None:
    for keys, value, says in (
        (("access", "rates", "per_kye"), "1/second", "per_key"),
        (("access", "rates", "per_key"), "lots", "200/second"),
        (("access", "rates", "url"), "http://x", "url"),
        (("access", "requird"), True, "required"),
        (("access", "required"), True, "keys_file"),
        (("access", "trusted_proxies"), ["10.0.0.1/8"], "trusted_proxies"),
        (("access", "cors", "origins"), ["https://app.example.com/"], "no origin"),
    ):
        edit(file, put(*keys, value=value))
        assert says in refusal()


def put(*keys: str, value: Any) -> Edit:
    """An edit that sets a nested key."""

    def change(content: Content) -> None:
        for key in keys[:-1]:
            content[key] = content = content.get(key) or {}
        content[keys[-1]] = value

    return change


def test_the_file_of_the_repository_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOKADO_CONFIG", raising=False)
    settings = load_settings()
    assert settings.model == "customers"
    assert settings.environments["production"].weights == {"v1": 80, "v2": 20}


def test_an_empty_config_variable_means_the_file_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_CONFIG", "")
    assert load_settings().model == "customers"


def test_every_key_of_the_repositorys_file_that_has_a_default_states_that_default() -> None:
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    assert BatchingSettings.model_validate(content["batching"]) == BatchingSettings()
    assert LimitSettings.model_validate(content["limits"]) == LimitSettings()
    assert content["workers"] == Settings.model_fields["workers"].default


def test_the_config_variable_names_the_file(file: Path) -> None:
    assert load_settings().model == "paper"


def test_what_the_file_leaves_out_has_a_default(file: Path) -> None:
    settings = load_settings()
    v2 = settings.versions["v2"]
    assert (v2.engine, v2.placement, v2.workers, v2.aliases) == (EngineChoice.AUTO, Placement.EMBEDDED, 1, ())
    assert (settings.express_lane, settings.default_environment) == (True, "production")
    production = settings.environments["production"]
    assert (production.strategy, production.enabled) == (Strategy.RANDOM, True)


def test_settings_cannot_be_changed(file: Path) -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.model = "other"
    with pytest.raises(ValidationError, match="frozen"):
        settings.batching.inline_ms = 1


def test_a_tag_is_made_of_model_and_version_unless_it_is_set(file: Path) -> None:
    edit(file, put("versions", "v2", value={"tag": "other:v7"}))
    settings = load_settings()
    assert settings.tag_of("v1") == "paper:v1"
    assert settings.tag_of("v2") == "other:v7"


def test_as_many_workers_as_cpus_run_unless_a_number_is_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().worker_count == available_cpus()
    monkeypatch.setenv("SHOKADO_WORKERS", "7")
    assert load_settings().worker_count == 7


OVERRIDDEN: dict[str, tuple[str, str, Callable[[Settings], object], object]] = {
    "a key": ("SHOKADO_MODEL", "iris", lambda s: s.model, "iris"),
    "a switch": ("SHOKADO_EXPRESS_LANE", "false", lambda s: s.express_lane, False),
    "a nested key": ("SHOKADO_BATCHING__MAX_QUEUE_MS", "50", lambda s: s.batching.max_queue_ms, 50),
    "a version's key": ("SHOKADO_VERSIONS__V1__PLACEMENT", "service", lambda s: s.versions["v1"].placement, "service"),
    "a version that is null in the file": ("SHOKADO_VERSIONS__V2__WORKERS", "3", lambda s: s.versions["v2"].workers, 3),
    "a new version": ("SHOKADO_VERSIONS__V3__WORKERS", "1", lambda s: list(s.versions), ["v1", "v2", "v3"]),
    "one weight": (
        "SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS__V2", "0",
        lambda s: s.environments["production"].weights, {"v1": 80, "v2": 0},
    ),
    "all weights": (
        "SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS", '{"v2": 100}',
        lambda s: s.environments["production"].weights, {"v2": 100},
    ),
    "a list": ("SHOKADO_VERSIONS__V1__ALIASES", '["x", "y"]', lambda s: s.versions["v1"].aliases, ("x", "y")),
    "a key in small letters": ("shokado_model", "iris", lambda s: s.model, "iris"),
}  # fmt: skip


@pytest.mark.parametrize(("variable", "value", "read", "expected"), OVERRIDDEN.values(), ids=OVERRIDDEN)
def test_the_environment_overrides(
    variable: str,
    value: str,
    read: Callable[[Settings], object],
    expected: object,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read(load_settings()) != expected
    monkeypatch.setenv(variable, value)
    assert read(load_settings()) == expected


def test_the_environment_leaves_the_keys_beside_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_VERSIONS__V1__PLACEMENT", "service")
    v1 = load_settings().versions["v1"]
    assert (v1.placement, v1.aliases) == (Placement.SERVICE, ("a",))


UNKNOWN_KEYS: dict[str, tuple[Edit, str]] = {
    "at the top": (put("workrs", value=2), "workrs: unknown key; did you mean workers?"),
    "of a version": (
        put("versions", "v1", "placment", value="service"),
        "versions.v1.placment: unknown key; did you mean placement?",
    ),
    "of a version with a service": (
        put("versions", "v1", value={"placement": "service", "service": {"timeout": 1}}),
        "versions.v1.service.timeout: unknown key; did you mean timeout_s?",
    ),
    "of a remote version": (
        put("versions", "v1", value={"placement": "remote", "remote": {"url": "http://a", "timeout": 1}}),
        "versions.v1.remote.timeout: unknown key; did you mean timeout_s?",
    ),
    "of an environment": (
        put("environments", "production", "weight", value={}),
        "environments.production.weight: unknown key; did you mean weights?",
    ),
    "of the batching": (
        put("batching", "max_batch_row", value=1),
        "batching.max_batch_row: unknown key; did you mean max_batch_rows?",
    ),
    "of the limits": (put("limits", "max_body", value=1), "limits.max_body: unknown key; did you mean max_body_bytes?"),
    "that is a number": (put("7", value=1), "7: unknown key; known are model, workers, "),
    "like no other": (
        put("batching", "zzzz", value=1),
        "batching.zzzz: unknown key; known are latency_target_ms, max_batch_rows, max_queue_ms",
    ),
}


def test_a_remote_version_is_asked_by_our_names_unless_others_are_set(file: Path) -> None:
    edit(file, put("versions", "v1", value={"placement": "remote", "remote": {"url": "http://other:3000/base/"}}))
    settings = load_settings()
    assert settings.remote_of("v2") is settings.remote_of("v9") is None
    remote = settings.remote_of("v1")
    assert remote is not None
    assert remote.address == "http://other:3000/base/v2/models/paper/versions/v1"
    named = {"url": "https://other", "model": "a/b", "version": None}
    edit(file, put("versions", "v1", value={"placement": "remote", "remote": named}))
    remote = load_settings().remote_of("v1")
    assert remote is not None
    assert remote.address == "https://other/v2/models/a%2Fb"


@pytest.mark.parametrize(("change", "message"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_an_unknown_key_is_named_with_the_nearest_known_one(change: Edit, message: str, file: Path) -> None:
    edit(file, change)
    assert refusal().startswith(f"{file}: {message}")


UNKNOWN_VARIABLES = {
    "SHOKADO_WORKRES": "SHOKADO_WORKRES: unknown variable; did you mean SHOKADO_WORKERS?",
    "SHOKADO_CONFG": "SHOKADO_CONFG: unknown variable; did you mean SHOKADO_CONFIG?",
    "shokado_workres": "shokado_workres: unknown variable; did you mean SHOKADO_WORKERS?",
    "SHOKADO_VERSION__V1__WORKERS": "SHOKADO_VERSION__V1__WORKERS: unknown variable; did you mean SHOKADO_VERSIONS?",
    "SHOKADO_BATCHING__INLINE": "SHOKADO_BATCHING__INLINE: batching.inline: unknown key; did you mean inline_ms?",
    "SHOKADO_VERSIONS__V1__WORKER": (
        "SHOKADO_VERSIONS__V1__WORKER: versions.v1.worker: unknown key; did you mean workers?"
    ),
}


@pytest.mark.parametrize(("variable", "message"), UNKNOWN_VARIABLES.items(), ids=UNKNOWN_VARIABLES)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    variable: str, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert refusal() == message


def test_a_variable_of_another_program_is_none_of_our_business(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADOS_COLOUR", "red")
    assert load_settings().model == "paper"


SERVICE_LINKS = {
    "SHOKADO_V1_SERVICE_HOST": "10.0.0.7",
    "SHOKADO_V1_SERVICE_PORT": "3000",
    "SHOKADO_V1_SERVICE_PORT_HTTP": "3000",
    "SHOKADO_V1_PORT": "tcp://10.0.0.7:3000",
    "SHOKADO_V1_PORT_3000_TCP": "tcp://10.0.0.7:3000",
    "SHOKADO_V1_PORT_3000_TCP_ADDR": "10.0.0.7",
}


def test_what_kubernetes_tells_of_a_service_of_our_name_is_no_mistake(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in SERVICE_LINKS.items():
        monkeypatch.setenv(variable, value)
    assert load_settings().model == "paper"
    monkeypatch.setenv("SHOKADO_PORT", "8080")
    assert refusal().startswith("SHOKADO_PORT: unknown variable")


WRONG_VALUES: dict[str, tuple[Edit, str]] = {
    "no model": (lambda content: content.pop("model"), "model: Field required"),
    "a model that no tag can have": (put("model", value="My Model"), "model: String should match pattern"),
    "no versions": (put("versions", value={}), "versions: "),
    "versions as a list": (put("versions", value=["v1"]), "versions: "),
    "a version that no label can have": (put("versions", "V 1", value={}), "versions.V 1.[key]: "),
    "a tag without a colon": (put("versions", "v1", "tag", value="paper"), "versions.v1.tag: "),
    "an unknown engine": (put("versions", "v1", "engine", value="torch"), "versions.v1.engine: "),
    "an unknown placement": (put("versions", "v1", "placement", value="moon"), "versions.v1.placement: "),
    "remote without an address": (
        put("versions", "v1", "placement", value="remote"),
        "versions.v1: placement is remote, so remote.url must be the server's address",
    ),
    "how a service is asked that there is not": (
        put("versions", "v1", "service", value={"timeout_s": 1}),
        "versions.v1: service is for versions with placement: service; placement is embedded",
    ),
    "a remote address of another placement": (
        put("versions", "v1", "remote", value={"url": "http://other:3000"}),
        "versions.v1: remote is for versions with placement: remote; placement is embedded",
    ),
    "an address of another kind": (
        put("versions", "v1", value={"placement": "remote", "remote": {"url": "ftp://other"}}),
        "versions.v1.remote.url: 'ftp://other' is no address of a server, such as http://shokado-v1:3000",
    ),
    "an address with a password": (
        put("versions", "v1", value={"placement": "remote", "remote": {"url": "http://me:secret@other"}}),
        "versions.v1.remote.url: an address with credentials or @ in it; a key belongs into key_file",
    ),
    "a Redis at no port": (
        put("store", value="redis://:secret@other:secret/0"),
        "store: special characters of a user or password in an address are written as %40, %2F, %23, .., and its port",
    ),
    "a Redis database in words": (
        put("cache", value={"backend": "redis", "url": "redis://other:6379/zero"}),
        "cache.url: 'zero' is no number of a Redis database, as the 0 in redis://host:6379/0",
    ),
    "no processes": (put("versions", "v1", "workers", value=0), "versions.v1.workers: "),
    "too many processes": (put("versions", "v1", "workers", value=65), "versions.v1.workers: "),
    "no workers": (put("workers", value=0), "workers: 0 is not allowed; 1 to 256 are, or auto"),
    "too many workers": (put("workers", value=257), "workers: 257 is not allowed; 1 to 256 are, or auto"),
    "workers in words": (put("workers", value="many"), "workers: 'many' is not allowed; 1 to 256 are, or auto"),
    "an alias that is a version": (
        put("versions", "v1", "aliases", value=["v2"]),
        "settings: alias v2 of version v1 is taken",
    ),
    "an alias twice": (
        put("versions", "v2", value={"aliases": ["a"]}),
        "settings: alias a of version v2 is taken",
    ),
    "no environments": (put("environments", value={}), "environments: "),
    "an environment without an active version": (
        put("environments", "production", value={"weights": {"v1": 1}}),
        "environments.production.active: Field required",
    ),
    "an unknown active version": (
        put("environments", "production", "active", value="v9"),
        "settings: environment production names version v9, which is not configured",
    ),
    "a weight of an unknown version": (
        put("environments", "production", "weights", value={"v1": 1, "v8": 1}),
        "settings: environment production names version v8, which is not configured",
    ),
    "an alias where a version belongs": (
        put("environments", "production", "active", value="a"),
        "settings: environment production names version a, which is not configured",
    ),
    "a negative weight": (
        put("environments", "production", "weights", value={"v1": 2, "v2": -1}),
        "environments.production.weights: weight of v2 is -1.0; weights are finite and not negative",
    ),
    "an infinite weight": (
        put("environments", "production", "weights", value={"v1": float("inf")}),
        "environments.production.weights: weight of v1 is inf; weights are finite and not negative",
    ),
    "a weight that is no number": (
        put("environments", "production", "weights", value={"v1": float("nan")}),
        "environments.production.weights: weight of v1 is nan; weights are finite and not negative",
    ),
    "a weight alone": (
        put("environments", "production", "weights", value={"v2": 20}),
        "environments.production.weights: v2 is the only version with a weight, so it would get 100 % of the traffic, ",
    ),
    "no weight": (
        put("environments", "production", "weights", value={"v1": 0}),
        "environments.production.weights: at least one weight must be above 0",
    ),
    "no weights": (
        put("environments", "production", "weights", value={}),
        "environments.production.weights: at least one weight must be above 0",
    ),
    "an unknown strategy": (
        put("environments", "production", "strategy", value="luck"),
        "environments.production.strategy: ",
    ),
    "a shadow that is not configured": (
        put("environments", "production", "shadow", value="v9"),
        "settings: environment production names version v9, which is not configured",
    ),
    "a store that is none": (put("store", value="postgres://x"), "store: "),
    "a store with a line's end": (
        put("store", value="redis://:pw\n@a:1/0"),
        "store: holds a line's end, as echo makes",
    ),
    "a blank store": (put("store", value=" "), "store: is blank; an address is written as redis://host:6379/0"),
    "a store with a space": (put("store", value="redis://a:1/0 "), "store: begins or ends with a space"),
    "a store without a scheme": (put("store", value="redis:6379"), "store: has no scheme"),
    "a store in quotes": (put("store", value="'redis://a:1/0'"), "store: begins with a quotation mark"),
    "rates in a Redis with a line's end": (
        put("access", value={"rates": {"url": "redis://a:1/0\n"}}),
        "access.rates.url: holds a line's end",
    ),
    "no share at all": (put("weighted", "max_step", value=0), "weighted.max_step: "),
    "a guardrail of a weighted split that is not counted": (
        put("weighted", "guardrails", value=[{"metric": "fallback_share", "limit": 0.1}]),
        "weighted.guardrails: fallback_share is not counted for the split as it moves; error_rate and slow_share are",
    ),
    "a guardrail of a weighted split with a margin": (
        put("weighted", "guardrails", value=[{"metric": "error_rate", "limit": 0.1, "margin": 0.1}]),
        "weighted.guardrails: a split that moves has no control to be worse than: give error_rate a limit",
    ),
    "two guardrails of a weighted split that are one": (
        put("weighted", "guardrails", value=[{"metric": "error_rate", "limit": part} for part in (0.1, 0.2)]),
        "weighted.guardrails: two guardrails have the same metric",
    ),
    "a guardrail of a weighted split without a limit": (
        put("weighted", "guardrails", value=[{"metric": "error_rate"}]),
        "weighted.guardrails.0: the guardrail error_rate has neither limit nor margin: give at least one",
    ),
    "a guardrail of a weighted split with a wrong key": (
        put("weighted", "guardrails", value=[{"metric": "error_rate", "limt": 0.1}]),
        "weighted.guardrails.0.limt: unknown key; did you mean limit?",
    ),
    "guardrails of a weighted split without a way back": (
        put("weighted", value={"guardrails": [{"metric": "error_rate", "limit": 0.1}], "min_share": 0}),
        "weighted: with guardrails, min_share must be above 0: a version without traffic never comes back",
    ),
    "a cache of an unknown kind": (put("cache", "backend", value="disk"), "cache.backend: "),
    "a cache in a Redis that is not there": (
        put("cache", "backend", value="redis"),
        "cache: backend is redis, so url must be one's address",
    ),
    "an unknown default environment": (
        put("default_environment", value="canary"),
        "settings: default_environment is canary, which is not configured",
    ),
    "no time for a batch": (put("batching", "latency_target_ms", value=0), "batching.latency_target_ms: "),
    "batches of nothing": (put("batching", "max_batch_rows", value=0), "batching.max_batch_rows: "),
    "a queue of no length": (put("batching", "max_queue_ms", value=0), "batching.max_queue_ms: "),
    "negative time": (put("batching", "inline_ms", value=-1), "batching.inline_ms: "),
    "requests of nothing": (put("limits", "max_rows", value=0), "limits.max_rows: "),
    "no room for a body": (put("limits", "max_body_bytes", value=0), "limits.max_body_bytes: "),
    "no room for headers": (put("limits", "max_header_bytes", value=0), "limits.max_header_bytes: "),
}


@pytest.mark.parametrize(("change", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value_is_refused(change: Edit, message: str, file: Path) -> None:
    edit(file, change)
    assert refusal().splitlines()[0].startswith(f"{file}: {message}")


def test_every_wrong_key_gets_a_line(file: Path) -> None:
    edit(file, lambda content: content.update(workrs=1, limits={"max_rows": 0}, batching={"inlin_ms": 1}))
    assert len(refusal().splitlines()) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SHOKADO_WORKERS", "many"),
        ("SHOKADO_WORKERS", ""),
        ("SHOKADO_LIMITS__MAX_ROWS", "0"),
        ("SHOKADO_VERSIONS__V1__ENGINE", "torch"),
        ("SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS__V1", "much"),
    ],
)
def test_a_wrong_value_in_the_environment_is_refused_in_the_name_of_its_variable(
    variable: str, value: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert all(line.startswith(f"{variable}: ") for line in refusal().splitlines())


def test_a_missing_file_is_named_with_the_variable_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOKADO_CONFIG", str(tmp_path / "nowhere.yaml"))
    assert refusal() == f"{tmp_path / 'nowhere.yaml'}: no such file (named by SHOKADO_CONFIG)"


def test_a_folder_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_CONFIG", str(tmp_path))
    assert "no such file" in refusal()


@pytest.mark.parametrize("content", [b"model: [paper", b"a:\n\tb: 1", b"model: \xff\xfe", b"a: &x 1\nb: *y"])
def test_a_file_that_is_not_yaml_is_refused_with_the_place(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    said = refusal()
    assert said.startswith(f"{file}: not readable as YAML: ")
    assert "line" in said or "position" in said


@pytest.mark.parametrize(("content", "kind"), [("- a\n- b\n", "list"), ("paper\n", "str"), ("7\n", "int")])
def test_a_file_that_is_not_keys_with_values_is_refused(content: str, kind: str, file: Path) -> None:
    file.write_text(content)
    assert refusal() == f"{file}: holds a {kind}, where keys with values belong"


def test_a_file_with_a_number_for_a_key_is_refused(file: Path) -> None:
    file.write_text(file.read_text() + "\n3: 4\n")
    assert refusal().startswith(f"{file}: 3: unknown key")


def test_an_empty_file_lacks_every_key_that_has_no_default(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert refusal().splitlines() == [f"{file}: {key}: Field required" for key in ("model", "versions", "environments")]


def test_off_is_a_word_even_where_yaml_reads_a_truth_value(file: Path) -> None:
    edit(file, put("cache", "backend", value=False))
    assert load_settings().cache.backend is CacheBackend.OFF


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SHOKADO_ACCESS__TRUSTED_PROXIES", "10.0.0.0/8", 'list as JSON: ["first", "second"]'),
        ("SHOKADO_ACCESS__TRUSTED_PROXIES", '["10.0.0.1/8"]', "trusted_proxies.0: 10.0.0.1/8 has host bits set"),
        ("SHOKADO_ACCESS__CORS__ORIGINS", "https://a.example", "list as JSON"),
        ("SHOKADO_VERSIONS__V1__ALIASES", "x,y", "list as JSON"),
        ("SHOKADO_VERSIONS__V1__ALIASES", '["a"', "list as JSON"),
        ("SHOKADO_VERSIONS", "v1", 'keys with their values as JSON: {"key": "value"}'),
        ("SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS", '{"v2": 20}', 'write {"v1": 80, "v2": 20} for 20 %'),
        ("SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS", "v1:80", "keys with their values as JSON"),
        ("SHOKADO_LIMITS", "[x", "keys with their values as JSON"),
        ("SHOKADO_ACCESS", "foo", "keys with their values as JSON"),
    ],
)
def test_a_variable_that_is_written_in_another_form_is_named_with_the_right_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refusal().startswith(f"{variable}: ")
    assert says in refusal()
    assert len(refusal().splitlines()) == 1


SEGMENTED = {"region": {"levels": [1, 2]}, "age": {"cuts": [30, 50]}}


@pytest.mark.parametrize(
    ("features", "names"),
    [(["region", "sex"], {"region", "sex"}), ({"region": None}, {"region"}), (SEGMENTED, set(SEGMENTED))],
)
def test_segments_are_names_or_names_with_levels(file: Path, features: Any, names: set[str]) -> None:
    edit(file, lambda content: content.update(segments={"features": features}))
    assert load_settings().segments.features.keys() == names


@pytest.mark.parametrize("value", ['["region"]', '{"region": {}}'])
def test_a_variable_has_segments_as_json(file: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SHOKADO_SEGMENTS__FEATURES", value)
    assert load_settings().segments.features.keys() == {"region"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"segments": {"features": list("abcde")}}, "at most 4 items"),
        ({"segments": {"features": {"age": {"cuts": [3, 3]}}}}, "cuts ascend"),
        ({"segments": {"features": {"age": {"cuts": [3], "levels": ["a"]}}}}, "give one of both"),
        ({"segments": {"features": {"age": {"levels": ["a", "a"]}}}}, "levels repeat"),
        ({"segments": {"features": {"age": {"cut": [3]}}}}, "did you mean cuts?"),
        ({"segments": {"features": ["sex"]}, "log": {"share": 1, "drop": ["sex"]}}, "sex, whose values log.drop"),
        ({"retraining": {"webhook": "ftp://x"}}, "no address"),
        ({"retraining": {"webhook": "https://a:b@x/"}}, "sign events with key_file"),
        ({"retraining": {"webhook": "https://x/", "command": ["a"]}}, "give one of both"),
        ({"retraining": {"key_file": "x"}}, "there is none"),
        ({"retraining": {"command": [""]}}, "begins with a program"),
        ({"retraining": {"causes": []}}, "at least 1 item"),
        ({"retraining": {"webhok": "https://x/"}}, "did you mean webhook?"),
        ({"retraining": {"webhook": "https://x/"}, "drift": {"enabled": False}}, "retraining.causes has drift"),
    ],
)
def test_segments_and_retraining_that_cannot_be_are_refused(file: Path, sections: Any, words: str) -> None:
    edit(file, lambda content: content.update(sections))
    assert words in refusal()


def test_a_log_that_masks_nobody_records_may_mask_segments(file: Path) -> None:
    edit(file, lambda content: content.update(segments={"features": ["sex"]}, log={"hash": ["sex"]}))
    assert not load_settings().log.share
