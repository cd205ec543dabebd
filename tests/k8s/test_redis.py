"""Redis, run with the command and the configuration of its pods, is the store that the gateways need."""

from pathlib import Path
from urllib.parse import urlsplit

from shokado.stores.redis_store import RedisStore
from tests.k8s.cluster import Cluster
from tests.k8s.running_redis import PASSWORD, running_redis
from tests.support.redis_server import needs_redis


@needs_redis
def test_it_forgets_nothing_that_was_confirmed(production: Cluster, tmp_path: Path) -> None:
    with running_redis(production, tmp_path) as redis:
        store = RedisStore(f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0", "customers")
        store.position()
        assert store.durability == ""


@needs_redis
def test_its_probes_need_the_password_that_they_are_given(production: Cluster, tmp_path: Path) -> None:
    (pod,) = production.component("redis")
    assert pod.variables["REDISCLI_AUTH"] == "shokado-redis.password"
    with running_redis(production, tmp_path) as redis:
        for name in ("startupProbe", "readinessProbe"):
            assert redis.probe(name) == 0
            assert redis.probe(name, password="wrong") != 0


def setting(cluster: Cluster, name: str) -> str:
    """A value of redis.conf."""
    (pod,) = cluster.component("redis")
    (configuration,) = cluster.configuration(pod).values()
    return dict(line.split(maxsplit=1) for line in configuration.splitlines() if " " in line)[name]


def test_its_data_lie_on_the_volume_that_is_kept(production: Cluster) -> None:
    (pod,) = production.component("redis")
    (claim,) = pod.owner["spec"]["volumeClaimTemplates"]
    assert dict(pod.mounted())[setting(production, "dir")] == {"name": claim["metadata"]["name"]}


def test_it_refuses_to_write_before_it_has_no_memory_left(production: Cluster) -> None:
    (pod,) = production.component("redis")
    limit = pod.container["resources"]["limits"]["memory"]
    # Rewriting its file may take as much once more.
    assert 2 * int(setting(production, "maxmemory").removesuffix("mb")) <= int(limit.removesuffix("Mi"))


def test_the_gateways_ask_it_by_its_service(production: Cluster) -> None:
    (gateway,) = production.component("gateway")
    assert urlsplit(gateway.variables["SHOKADO_STORE"]).hostname in production.names("Service")
