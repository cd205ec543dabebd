"""What waits for a verdict: the calls that Argo Rollouts and Flagger make of our manifests, and what they conclude.

How each of them judges is as their documentation says: of Argo Rollouts the features "Analysis" and "Web Metrics", of
Flagger "Webhooks".
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from k8s.custom_resources import Resource
from k8s.validate import FOLDER, NOT_THERE, Rendering, has_kubectl
from shokado.control.http.authorization import role_for
from shokado.dispatch.experiment import Result
from tests.control.concluded import begin, conclude
from tests.control.site import Site, open_site
from tests.k8s.cluster import Cluster

pytestmark = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gateways whose production has v1 and v2, as the manifests say."""
    with open_site(tmp_path_factory.mktemp("site") / "site") as opened:
        opened.join()
        yield opened


@pytest.fixture(scope="module")
def template() -> Resource:
    (found,) = Cluster(Rendering("argo-rollouts")).resources
    return found


@pytest.fixture(scope="module")
def canary() -> Resource:
    (found,) = Cluster(Rendering("flagger")).resources
    return found


def asked(site: Site, method: str, url: str, **how: Any) -> httpx.Response:
    """What the gateways answer to a call at the address that a manifest has."""
    parts = urlsplit(url)
    assert (parts.scheme, parts.hostname, parts.port) == ("http", "shokado-gateway.shokado-production.svc", 3000)
    return site.ask(method, f"{parts.path}?{parts.query}", **how)


class AnalysisRun:
    """A run of a template, as the controller of Argo Rollouts has it."""

    def __init__(self, template: Resource, **arguments: str) -> None:
        named = {one["name"]: one.get("value") for one in template["spec"]["args"]}
        assert named.keys() >= arguments.keys()
        self._arguments = named | arguments
        self._metrics = template["spec"]["metrics"]
        self._measured: dict[str, Counter[str]] = {metric["name"]: Counter() for metric in self._metrics}
        self._ended: dict[str, str] = {}

    def measure(self, site: Site) -> str:
        """Take a measurement of each metric that has not ended; the run's phase after it."""
        for metric in self._metrics:
            if metric["name"] not in self._ended:
                counts = self._measured[metric["name"]]
                phase = self._measurement(site, metric)
                counts["consecutive"] = counts["consecutive"] + 1 if phase == "Successful" else 0
                counts[phase] += 1
                if (end := _end_of(metric, counts)) is not None:
                    self._ended[metric["name"]] = end
        for worst in ("Failed", "Error", "Inconclusive"):
            if worst in self._ended.values():
                return worst
        return "Successful" if len(self._ended) == len(self._metrics) else "Running"

    def _measurement(self, site: Site, metric: Resource) -> str:
        web = metric["provider"]["web"]
        headers = {header["key"]: self._with_arguments(header["value"]) for header in web["headers"]}
        answer = asked(site, "GET", self._with_arguments(web["url"]), headers=headers)
        if answer.status_code not in range(200, 300):
            return "Error"
        (name,) = re.fullmatch(r"\{\$\.(\w+)\}", web["jsonPath"]).groups()  # type: ignore[union-attr]
        # Both conditions are expressions that Python reads as Argo's language does.
        succeeds, fails = (
            eval(metric[condition], {"result": answer.json()[name]})
            for condition in ("successCondition", "failureCondition")
        )
        return "Failed" if fails else "Successful" if succeeds else "Inconclusive"

    def _with_arguments(self, text: str) -> str:
        return re.sub(r"\{\{\s*args\.([\w-]+)\s*\}\}", lambda found: self._arguments[found[1]] or "", text)


def _end_of(metric: Resource, counts: Counter[str]) -> str | None:
    """How a metric that has no `count` ends; None while it goes on."""
    if counts["Inconclusive"] > metric["inconclusiveLimit"]:
        return "Inconclusive"
    if 0 <= metric["failureLimit"] < counts["Failed"]:
        return "Failed"
    return "Successful" if counts["consecutive"] >= metric["consecutiveSuccessLimit"] > 0 else None


ENDS = {
    Result.PROMOTE: "Successful",
    Result.ROLLBACK: "Failed",
    Result.INVALID: "Failed",
    Result.HOLD: "Inconclusive",
    Result.STOPPED: "Inconclusive",
}


@pytest.mark.parametrize(("result", "phase"), ENDS.items())
def test_an_analysis_waits_for_the_verdict(site: Site, template: Resource, result: Result, phase: str) -> None:
    """Inconclusive: the Rollout pauses, and somebody decides."""
    begin(site)
    run = AnalysisRun(template, candidate="v2", key="shk_any")
    assert [run.measure(site) for _ in range(5)] == ["Running"] * 5
    conclude(site, result)
    assert run.measure(site) == phase


def test_an_analysis_pauses_where_there_is_nothing_to_wait_for(site: Site, template: Resource) -> None:
    begin(site)
    conclude(site, Result.PROMOTE, ago_s=100_000)
    assert AnalysisRun(template, candidate="v2", key="shk_any").measure(site) == "Inconclusive"
    wrong = AnalysisRun(template, candidate="v9", key="shk_any")
    assert wrong.measure(site) == "Running"
    assert wrong._measured["verdict"] == {"Error": 1, "consecutive": 0}


def test_an_analysis_shows_the_key_of_a_secret_that_the_readme_makes(template: Resource) -> None:
    assert role_for("GET", "/v1/verdict", open_metrics=False) is not None
    (secret,) = [one["valueFrom"]["secretKeyRef"] for one in template["spec"]["args"] if "valueFrom" in one]
    text = (FOLDER / "README.md").read_text()
    assert f"generic {secret['name']} " in text
    assert f"--from-literal={secret['key']}=" in text
    for metric in template["spec"]["metrics"]:
        assert metric["provider"]["web"]["headers"] == [{"key": "Authorization", "value": "Bearer {{args.key}}"}]


def test_both_metrics_ask_alike(template: Resource) -> None:
    verdict, held = template["spec"]["metrics"]
    for same in ("provider", "interval", "successCondition", "consecutiveSuccessLimit", "consecutiveErrorLimit"):
        assert verdict[same] == held[same]


def flagger(site: Site, canary: Resource) -> str:
    """What a canary does at one look while it waits: rollback hooks come first."""

    def says_yes(kind: str) -> bool:
        (hook,) = (one for one in canary["spec"]["analysis"]["webhooks"] if one["type"] == kind)
        body = {
            "name": canary["metadata"]["name"],
            "namespace": canary["metadata"]["namespace"],
            "phase": "WaitingPromotion",
            "checksum": "85d557f47b",
            "metadata": hook["metadata"],
        }
        answer = asked(site, "POST", hook["url"], json=body)
        assert answer.status_code in (200, 409), answer.text
        return answer.status_code <= 202

    if says_yes("rollback"):
        return "rolled back"
    return "promoted" if says_yes("confirm-promotion") else "waits"


@pytest.mark.parametrize(
    ("result", "becomes"),
    [
        (Result.PROMOTE, "promoted"),
        (Result.ROLLBACK, "rolled back"),
        (Result.INVALID, "rolled back"),
        (Result.HOLD, "waits"),
        (Result.STOPPED, "waits"),
    ],
)
def test_a_canary_waits_for_the_verdict(site: Site, canary: Resource, result: Result, becomes: str) -> None:
    begin(site)
    assert flagger(site, canary) == "waits"
    conclude(site, result)
    assert flagger(site, canary) == becomes


def test_flagger_needs_no_key_as_it_can_show_none(canary: Resource) -> None:
    for hook in canary["spec"]["analysis"]["webhooks"]:
        assert role_for("POST", urlsplit(hook["url"]).path, open_metrics=False) is None


@pytest.mark.parametrize("folder", ["argo-rollouts", "flagger"])
def test_the_address_is_that_of_the_gateways_of_production(
    folder: str, production: Cluster, template: Resource, canary: Resource
) -> None:
    addresses: dict[str, Callable[[], list[str]]] = {
        "argo-rollouts": lambda: [one["value"] for one in template["spec"]["args"] if one["name"] == "gateway"],
        "flagger": lambda: [hook["url"] for hook in canary["spec"]["analysis"]["webhooks"]],
    }
    service = production.named("Service", "shokado-gateway")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    (port,) = (one["port"] for one in service["spec"]["ports"])
    assert {(urlsplit(url).hostname, urlsplit(url).port) for url in addresses[folder]()} == {(host, port)}
