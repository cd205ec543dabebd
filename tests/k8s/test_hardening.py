"""What a pod may do: no more than Pod Security's "restricted" allows, and on a file system that nobody writes to."""

import json
import re

from tests.k8s.cluster import Cluster, at


def test_pods_keep_to_the_restricted_standard(cluster: Cluster) -> None:
    for pod in cluster.pods:
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for wide in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"):
            assert wide not in pod.spec


def test_the_bundle_runs_as_the_user_of_its_image(cluster: Cluster) -> None:
    for pod in cluster.component("gateway") + cluster.component("runner"):
        security = pod.spec["securityContext"]
        assert {security[who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {1034}


def test_namespaces_enforce_it(cluster: Cluster) -> None:
    (namespace,) = cluster.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_volumes_are_of_the_kinds_that_restricted_allows(cluster: Cluster) -> None:
    for pod in cluster.pods:
        for volume in pod.spec["volumes"]:
            (kind,) = volume.keys() - {"name"}
            assert kind in ("configMap", "secret", "emptyDir")
        assert "hostPath" not in json.dumps(pod.owner)


def test_what_may_be_written_is_bounded(cluster: Cluster) -> None:
    for pod in cluster.component("gateway") + cluster.component("runner"):
        writable = {path: volume["emptyDir"] for path, volume in pod.mounted() if "emptyDir" in volume}
        assert set(writable) == {"/tmp", "/var/lib/shokado"}
        for directory in writable.values():
            assert re.fullmatch(r"\d+Mi", directory["sizeLimit"])
        for mount in pod.container["volumeMounts"]:
            assert mount.get("readOnly") is True or mount["mountPath"] in writable


def test_images_have_a_version(cluster: Cluster) -> None:
    for pod in cluster.pods:
        assert re.fullmatch(r"[^:]+:\d+\.\d+\.\d+[^:]*", pod.container["image"]), pod.container["image"]


def test_nothing_talks_to_the_api_server(cluster: Cluster) -> None:
    for account in cluster.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for pod in cluster.pods:
        assert pod.spec["automountServiceAccountToken"] is False
    assert not cluster.of("Role") + cluster.of("RoleBinding") + cluster.of("ClusterRole")


def test_no_pod_is_told_of_services_by_variables(cluster: Cluster) -> None:
    for pod in cluster.pods:
        assert pod.spec["enableServiceLinks"] is False


def test_no_secret_is_in_the_manifests(rendered: Cluster) -> None:
    assert rendered.of("Secret") == []
    assert not re.search(r"shk_|password: ", json.dumps(rendered.resources))


def test_secrets_are_read_by_their_group_only(cluster: Cluster) -> None:
    for pod in cluster.component("gateway") + cluster.component("runner"):
        modes = [at(volume, "secret.defaultMode") for _, volume in pod.mounted() if "secret" in volume]
        assert modes == [0o440]
