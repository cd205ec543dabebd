"""What the pods are configured with: the real settings take it, and it names what the pods have."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from configuration.settings import FILE_VARIABLE, Placement, Settings, load_settings
from tests.k8s.cluster import Cluster, Pod


def settings_of(cluster: Cluster, pod: Pod, folder: Path) -> Settings:
    """As the server reads them when the pod starts."""
    variables = pod.variables
    file = folder / "serving.yaml"
    file.write_text(cluster.configuration(pod)[variables[FILE_VARIABLE]])
    with pytest.MonkeyPatch.context() as changed:
        for name, value in (variables | {FILE_VARIABLE: str(file)}).items():
            changed.setenv(name, value)
        return load_settings()


def servers(cluster: Cluster) -> list[Pod]:
    return cluster.component("gateway") + cluster.component("runner")


def test_every_configuration_is_taken_and_asks_for_keys(cluster: Cluster, tmp_path: Path) -> None:
    for pod in servers(cluster):
        access = settings_of(cluster, pod, tmp_path).access
        assert access.required
        assert not access.open_metrics
        assert pod.files()[access.keys_file or ""] == ("shokado-keys", "keys.yaml")


def test_a_stop_ends_before_the_cluster_ends_it(cluster: Cluster, tmp_path: Path) -> None:
    for pod in servers(cluster):
        shutdown = settings_of(cluster, pod, tmp_path).shutdown
        assert pod.spec["terminationGracePeriodSeconds"] > shutdown.pause_s + shutdown.drain_s + 5


def test_readiness_is_seen_to_have_ended_before_connections_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    for pod in servers(cluster):
        probe = pod.container["readinessProbe"]
        pause_s = settings_of(cluster, pod, tmp_path).shutdown.pause_s
        assert probe["periodSeconds"] * probe["failureThreshold"] < pause_s


def test_a_gateway_sends_each_version_to_its_service_with_the_key_for_runners(cluster: Cluster, tmp_path: Path) -> None:
    services = {service["metadata"]["name"]: service["spec"] for service in cluster.of("Service")}
    (gateway,) = cluster.component("gateway")
    settings = settings_of(cluster, gateway, tmp_path)
    for version, spec in settings.versions.items():
        assert spec.placement is Placement.REMOTE
        assert spec.remote is not None
        url = urlsplit(spec.remote.url)
        assert url.port in [port["port"] for port in services[url.hostname or ""]["ports"]]
        (runner,) = cluster.selected(services[url.hostname or ""]["selector"])
        assert runner.labels["app.kubernetes.io/version"] == version
        assert gateway.files()[spec.remote.key_file or ""] == ("shokado-keys", "runner-key")


def test_a_runner_serves_its_version_and_no_other(cluster: Cluster, tmp_path: Path) -> None:
    (gateway,) = cluster.component("gateway")
    routed = settings_of(cluster, gateway, tmp_path)
    assert len(cluster.component("runner")) == len(routed.versions)
    for runner in cluster.component("runner"):
        version = runner.labels["app.kubernetes.io/version"]
        settings = settings_of(cluster, runner, tmp_path)
        assert (settings.model, list(settings.versions)) == (routed.model, [version])
        assert settings.versions[version].placement is Placement.EMBEDDED
        assert settings.environments["production"].weights == {version: 1}
        assert not settings.loading.registry


def test_gateways_share_a_store_and_runners_have_one_each(cluster: Cluster, tmp_path: Path) -> None:
    (gateway,) = cluster.component("gateway")
    (redis,) = cluster.named("Service", "shokado-redis")["spec"]["ports"]
    settings = settings_of(cluster, gateway, tmp_path)
    for url, database in ((settings.store, "/0"), (settings.access.rates.url, "/1")):
        parts = urlsplit(url or "")
        assert (parts.scheme, parts.hostname, parts.port, parts.path) == (
            "redis", "shokado-redis", redis["port"], database,
        )  # fmt: skip
        assert parts.password == "shokado-redis.password"
    for runner in cluster.component("runner"):
        store = settings_of(cluster, runner, tmp_path).store
        writable = [path for path, volume in runner.mounted() if "emptyDir" in volume]
        assert store.removeprefix("sqlite:///").rpartition("/")[0] in writable


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_an_environment_begins_with_its_first_version(
    environment: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster: Cluster = request.getfixturevalue(environment)
    (gateway,) = cluster.component("gateway")
    settings = settings_of(cluster, gateway, tmp_path)
    assert settings.default_environment == environment
    assert list(settings.environments) == [environment]
    assert settings.environments[environment].active == "v1"
    assert settings.environments[environment].weights == {"v1": 100, "v2": 0}


def test_staging_is_configured_as_production_is_apart_from_its_name(
    staging: Cluster, production: Cluster, tmp_path: Path
) -> None:
    texts = []
    for name, cluster in (("staging", staging), ("production", production)):
        (gateway,) = cluster.component("gateway")
        content = settings_of(cluster, gateway, tmp_path).model_dump(mode="json")
        content["environments"] = content["environments"][name]
        texts.append(content | {"default_environment": ""})
    assert texts[0] == texts[1]


def test_yatai_sets_what_can_be_set(yatai: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {each["name"]: each.get("value", "") for each in yatai.of("BentoDeployment")[0]["spec"]["envs"]}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.store == variables["SHOKADO_STORE"]
    assert settings.shutdown.pause_s == float(variables["SHOKADO_SHUTDOWN__PAUSE_S"])
