"""What makes a candidate the active version: the canary's policy, or the plan of an experiment."""

import time
from collections.abc import Mapping
from typing import Any

from shokado.client.answers import ExperimentAnswer
from shokado.lifecycle.delivery.promotion import CandidateStage, Say
from shokado.lifecycle.errors import CanaryRefused, DeliveryRefused, GatewayAway, GatewayRefused
from shokado.lifecycle.rollout.canary import LOOK_EVERY_S, Canary, Trouble
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.lifecycle.rollout.verdict import Verdict

_SHADOW = "shadow"
_OF_VERDICT = {
    Verdict.PASS: CandidateStage.CANDIDATE,
    Verdict.FAIL: CandidateStage.FAILED,
    Verdict.INCONCLUSIVE: CandidateStage.UNDECIDED,
}
"""Where a verdict leaves a candidate that it did not promote."""


class ByCanary:
    """Step by step, as `shokado canary` does; the last step is followed by the promotion."""

    def __init__(self, gateway: GatewayClient, canary: Canary) -> None:
        self._gateway = gateway
        self._canary = canary

    def has_begun(self, version: str) -> bool:
        return self._gateway.routing().canary == version

    def start(self, version: str) -> str:
        return str(self._canary.start(version))

    def advance(self, version: str) -> tuple[CandidateStage, str]:
        status, after = self._canary.step()
        verdict = status.judgement.verdict
        told = f"{version}: {verdict} at {status.routing.percent:g} %: {status.judgement.why}"
        if verdict is Verdict.PASS and after == status.routing:
            promoted = self._canary.promote()
            return CandidateStage.ACTIVE, f"{told}\n{promoted}; {promoted.active} is the active version"
        return _OF_VERDICT[verdict], f"{told}\n{after}"

    def lead(self, version: str, say: Say) -> CandidateStage:
        verdict = self._canary.resume(say)
        return CandidateStage.ACTIVE if self._gateway.routing().active == version else _OF_VERDICT[verdict]


class ByExperiment:
    """An experiment between the active version and the candidate, which gets a share of the traffic, or is a shadow."""

    def __init__(self, gateway: GatewayClient, plan: Mapping[str, Any], percent: float) -> None:
        """`plan` as the client's `start_experiment` has it; `percent` of the traffic that the candidate gets."""
        self._gateway = gateway
        self._plan = plan
        self._percent = percent
        self._is_shadow = plan.get("design") == _SHADOW

    def has_begun(self, version: str) -> bool:
        routing = self._gateway.routing()
        if self._is_shadow:
            last = self._gateway.last_experiment(routing.environment)
            return routing.shadow == version and last is not None and version in last.candidates
        return routing.enabled and routing.shares.get(version, 0.0) > 0

    def start(self, version: str) -> str:
        before = self._gateway.routing()
        if before.enabled and set(before.shares) != {before.active}:
            raise CanaryRefused(f"The traffic of {before.environment} is split already: {before}.")
        why = f"experiment of {version} begins"
        if self._is_shadow:
            change: dict[str, Any] = {"shadow": version}
            back: dict[str, Any] = {"shadow": before.shadow}
        else:
            share = {before.active: 100 - self._percent, version: self._percent}
            change, back = {"weights": share, "enabled": True}, {"weights": {before.active: 100, version: 0}}
        after = self._gateway.change(before, change, why)
        try:
            begun = self._gateway.start_experiment(self._plan, before.active, [version], why)
        except GatewayRefused as refusal:
            self._gateway.change(after, back, f"the experiment of {version} was refused: {refusal}")
            raise
        return f"experiment {begun.id}, at {self._percent:g} %" if "weights" in change else f"experiment {begun.id}"

    def advance(self, version: str) -> tuple[CandidateStage, str]:
        found = self._experiment(version)
        told = f"experiment {found.id}: {found.verdict}" + (f": {found.reason}" if found.reason else "")
        if found.running:
            return CandidateStage.UNDECIDED, told
        if found.verdict == "PROMOTE" and found.winner == version:
            routing = self._gateway.routing()
            change: dict[str, Any] = {"weights": {routing.active: 0, version: 100}, "active": version}
            change |= {"shadow": None} if routing.shadow == version else {}
            after = self._gateway.change(routing, change, f"{version} promoted: {told}")
            return CandidateStage.ACTIVE, f"{told}\n{after}; {after.active} is the active version"
        return CandidateStage.FAILED, f"{told}\n{version} was not found to be better; its share stays as it is"

    def lead(self, version: str, say: Say) -> CandidateStage:
        trouble = Trouble(say)
        while True:
            time.sleep(LOOK_EVERY_S)
            try:
                if self._gateway.routing().active == version:
                    return CandidateStage.ACTIVE
                stage, told = self.advance(version)
            except GatewayAway as error:
                trouble.seconds(error, time.monotonic())
                continue
            trouble.over()
            if stage is not CandidateStage.UNDECIDED:
                say(told)
                return stage

    def _experiment(self, version: str) -> ExperimentAnswer:
        """The one between the active version and this one. Raises `DeliveryRefused` where there is none."""
        environment = self._gateway.routing().environment
        last = self._gateway.last_experiment(environment)
        if last is None or version not in last.candidates:
            message = f"{version} shares the traffic of {environment}, and no experiment compares it."
            raise DeliveryRefused(message, f"shokado experiment start {version} --environment {environment}")
        return last
