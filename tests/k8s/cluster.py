"""What a rendering would put into a cluster, as the tests ask for it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k8s.custom_resources import Resource
from k8s.validate import Rendering, render

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """The pods of a Deployment or StatefulSet."""

    owner: Resource

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def labels(self) -> Labels:
        labels: Labels = self.owner["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def spec(self) -> Resource:
        spec: Resource = self.owner["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Resource:
        (container,) = self.spec["containers"]
        found: Resource = container
        return found

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment, as the cluster expands them; what a Secret holds is called by its address."""
        found: dict[str, str] = {}
        for variable in self.container.get("env", []):
            if "valueFrom" in variable:
                secret = variable["valueFrom"]["secretKeyRef"]
                value = f"{secret['name']}.{secret['key']}"
            else:
                value = variable["value"]
                for name, known in found.items():
                    value = value.replace(f"$({name})", known)
            found[variable["name"]] = value
        return found

    def mounted(self) -> Iterator[tuple[str, Resource]]:
        """Where each volume is mounted."""
        claims = [{"name": claim["metadata"]["name"]} for claim in self.owner["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"]: volume for volume in [*self.spec.get("volumes", []), *claims]}
        for mount in self.container["volumeMounts"]:
            yield mount["mountPath"], volumes[mount["name"]]

    def files(self) -> dict[str, tuple[str, str]]:
        """Path of each mounted file of a Secret: its Secret and key."""
        return {
            f"{path}/{item['path']}": (volume["secret"]["secretName"], item["key"])
            for path, volume in self.mounted()
            if "secret" in volume
            for item in volume["secret"]["items"]
        }


@dataclass(frozen=True)
class Cluster:
    """All objects of one rendering."""

    rendering: Rendering

    @property
    def resources(self) -> tuple[Resource, ...]:
        return render(self.rendering)

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] == kind]

    def named(self, kind: str, name: str) -> Resource:
        (found,) = [resource for resource in self.of(kind) if resource["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> set[str]:
        return {resource["metadata"]["name"] for resource in self.of(kind)}

    @property
    def pods(self) -> list[Pod]:
        return [Pod(owner) for kind in ("Deployment", "StatefulSet") for owner in self.of(kind)]

    def selected(self, selector: Labels) -> list[Pod]:
        return [pod for pod in self.pods if selector.items() <= pod.labels.items()]

    def component(self, name: str) -> list[Pod]:
        """The pods of the gateway, the runners or Redis."""
        return self.selected({"app.kubernetes.io/component": name})

    def configuration(self, pod: Pod) -> dict[str, str]:
        """The files of the pod's ConfigMaps by their path."""
        return {
            f"{path}/{key}": text
            for path, volume in pod.mounted()
            if "configMap" in volume
            for key, text in self.named("ConfigMap", volume["configMap"]["name"])["data"].items()
        }


def at(value: Any, path: str) -> Any:
    """What lies at a path such as `spec.template.spec`; None where there is nothing."""
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
