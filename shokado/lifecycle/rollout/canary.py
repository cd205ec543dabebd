"""A canary: a version that gets more and more of the traffic, as long as what is observed of it is good enough.

In: a gateway and a policy. Out: changes of the gateway's split, and an experiment there, whose verdict is followed.
There is no state beside the routing and its history: a canary is under way when a second version shares the traffic
with the active one, its step began when that split did, and its experiment is the one that compares just these two. So
`start`, `step`, `promote` and `abort` may come from different people and machines, and `run` can be replaced by any of
them at any time.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from configuration.canary_policy import CanaryPolicy
from shokado.client.answers import ExperimentAnswer
from shokado.lifecycle.errors import CanaryRefused, GatewayAway, GatewayRefused, LifecycleError, Overtaken
from shokado.lifecycle.rollout.gateway_client import GatewayClient, Routing, overtaken
from shokado.lifecycle.rollout.verdict import Finding, Judgement, Observed, Verdict, followed, is_in_favour, judge

LOOK_EVERY_S = 5.0
"""How often a canary is looked at: as often as the server's statistics change."""

Observe = Callable[[str, float], Observed]
"""What happened to a version's requests within the last so many seconds."""


@dataclass(frozen=True, slots=True)
class CanaryStatus:
    """A canary under way, and how it does."""

    routing: Routing
    seconds: float
    """Seconds since its step began."""
    canary: Observed
    stable: Observed
    experiment: ExperimentAnswer | None
    """What compares the two, under way or ended; None without one."""
    judgement: Judgement

    @property
    def is_undecided(self) -> bool:
        """Whether the experiment has ended without an answer, so that waiting brings none."""
        return self.experiment is not None and not self.experiment.running and not is_in_favour(self.experiment)


class Trouble:
    """What keeps a canary from being judged: said when it begins, when it becomes another, and when it is over."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._kind: type[LifecycleError] | None = None
        self._since = 0.0

    def seconds(self, error: LifecycleError, now: float) -> float:
        """How long it has lasted. A gateway is away in many words, which come and go with each attempt."""
        if self._kind is None:
            self._since = now
        if self._kind is not type(error):
            self._kind = type(error)
            self._say(f"{str(error).rstrip('.')}; it is asked again every {LOOK_EVERY_S:g} s")
        return now - self._since

    def over(self) -> None:
        """Take note that it can be judged again."""
        if self._kind is not None:
            self._kind = None
            self._say("it answers again")


class Canary:
    """The commands, on one environment of one gateway. All raise `LifecycleError`."""

    def __init__(
        self, gateway: GatewayClient, policy: CanaryPolicy, observe: Observe | None = None, *, force: bool = False
    ) -> None:
        """`observe` says what happened to versions; by default the gateway itself.

        `force`: give the version more traffic also where rows seen lately lack features that it needs.
        """
        self._gateway = gateway
        self._policy = policy
        self._observe = observe or gateway.observed
        self._forced = {"force": True} if force else {}

    def start(self, name: str) -> Routing:
        """Give a version the first step's share, and the active version the rest, and begin their experiment."""
        started = self._first_step(name)
        self._begin(started)
        return started

    def _first_step(self, name: str) -> Routing:
        routing = self._gateway.routing()
        version, ready, state = self._gateway.version(name)
        self._refuse_to_start(routing, version)
        if not ready:
            raise CanaryRefused(f"Version {version} is {state}, so it cannot be given traffic.", self._models)
        _, ready, state = self._gateway.version(routing.active)
        if not ready:
            message = f"The active version {routing.active} is {state}: there would be no way back to it."
            raise CanaryRefused(message, self._models)
        return self._give(routing, version, self._policy.steps[0], f"canary of {version} begins")

    def _begin(self, started: Routing) -> None:
        """Begin the policy's experiment. Where it is refused, the canary is taken back, and `GatewayRefused` raised."""
        try:
            self._join(started)
        except GatewayRefused as refusal:
            self._take_back(started, f"canary of {started.canary} aborted, as its experiment was refused: {refusal}")
            raise

    def status(self) -> CanaryStatus:
        """How the canary does. Raises `CanaryRefused` when none is under way."""
        return self._judged(self._under_way(), begins=False)

    def step(self) -> tuple[CanaryStatus, Routing]:
        """Act on the verdict: PASS is followed by the next step, if there is one, FAIL by the abort.

        An experiment begins where the policy wants one and there is none yet.

        Returns:
            What was judged, and the routing that follows from it.
        """
        status = self._judged(self._under_way(), begins=True)
        return status, self._follow(status)

    def promote(self) -> Routing:
        """Give the canary everything and make it the active version, in one change, unless it fails."""
        status = self.status()
        if status.judgement.verdict is Verdict.FAIL:
            message = f"Version {status.routing.canary} fails: {status.judgement.why}."
            raise CanaryRefused(message, "shokado canary abort")
        return self._promote(status)

    def abort(self, why: str = "by hand") -> Routing:
        """Give the active version everything, in one change."""
        routing = self._under_way()
        return self._take_back(routing, f"canary of {routing.canary} aborted at {routing.percent:g} %: {why}")

    def run(
        self,
        name: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Verdict:
        """Lead a version to its promotion, or to the abort after a FAIL, or after a step that cannot be judged in time.

        A gateway that does not answer, or refuses, is asked again, and that is said once. What has been away for as
        long as a step may take ends it as inconclusive, with the split as it was last seen where it cannot be taken
        back. Where the experiment's end has moved the split, that is the verdict. Raises `Overtaken` as soon as
        somebody else has: then it is theirs.
        """
        started = self._first_step(name)
        say(f"{started}")
        # Each look tries it again.
        with suppress(GatewayAway):
            self._begin(started)
        return self._led(started, say, clock, sleep)

    def resume(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Verdict:
        """Lead the canary under way on from where it is, as `run` does. Raises `CanaryRefused` when there is none."""
        return self._led(self._under_way(), say, clock, sleep)

    def _led(
        self, started: Routing, say: Callable[[str], None], clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> Verdict:
        try:
            return self._lead(started, say, clock, sleep)
        except Overtaken:
            now = self._gateway.routing()
            why = self._gateway.moved_by_experiment(now)
            if why is None:
                raise
            verdict = Verdict.PASS if now.active == started.canary else Verdict.FAIL
            say(f"{verdict}: {why}")
            say(f"{now}; {now.active} is the active version")
            return verdict

    def _lead(
        self, started: Routing, say: Callable[[str], None], clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> Verdict:
        seen = started
        expected: Routing | None = started
        began, trouble = clock(), Trouble(say)
        while True:
            sleep(LOOK_EVERY_S)
            late = clock() - began > self._policy.max_seconds
            try:
                status = self._judged(self._undisturbed(started, expected), clock() - began, begins=True)
                after = self._follow_through(status, late=late or status.is_undecided)
            except (GatewayAway, GatewayRefused) as error:
                # It may have made a change all the same.
                expected = None
                if trouble.seconds(error, clock()) > self._policy.max_seconds or (
                    late and type(error) is GatewayRefused
                ):
                    return self._give_up(started, seen, error, say)
                continue
            trouble.over()
            seen = expected = after
            if after != status.routing:
                began = clock()
                say(f"{status.judgement.verdict} at {status.routing.percent:g} %: {status.judgement.why}")
                say(f"{after}" if after.canary else f"{after}; {after.active} is the active version")
            if after.canary is None:
                return status.judgement.verdict

    def _give_up(self, started: Routing, seen: Routing, trouble: LifecycleError, say: Callable[[str], None]) -> Verdict:
        """Take the canary back, if the gateway lets it be done. Raises `GatewayRefused` if that was it."""
        why = f"canary of {started.canary} aborted, not judged in time: {trouble}"
        try:
            after = self._take_back(self._undisturbed(started, None), why)
        except GatewayAway:
            say(f"{Verdict.INCONCLUSIVE}: {trouble}")
            unless = "" if self._policy.experiment is None else ", unless its experiment takes it back"
            say(f"Nothing could be taken back: the split was {seen} when it was last seen, and stays so{unless}")
            return Verdict.INCONCLUSIVE
        if isinstance(trouble, GatewayRefused):
            raise trouble
        say(f"{Verdict.INCONCLUSIVE}: {trouble}")
        say(f"{after}; {after.active} is the active version")
        return Verdict.INCONCLUSIVE

    @property
    def _models(self) -> str:
        return f"curl {self._gateway.url}/v1/models"

    def _refuse_to_start(self, routing: Routing, version: str) -> None:
        if version == routing.active:
            raise CanaryRefused(f"Version {version} is the active version of {routing.environment} already.")
        if routing.strategy == "weighted":
            message = f"The strategy of {routing.environment} is weighted, which moves the split by itself"
            raise CanaryRefused(f"{message}: choose random or hash for a canary.")
        if routing.enabled and set(routing.shares) != {routing.active}:
            message = f"The traffic of {routing.environment} is split already: {routing}."
            raise CanaryRefused(message, "shokado canary abort" if routing.canary else None)
        running = self._gateway.last_experiment(routing.environment) if self._policy.experiment else None
        if running is not None and running.running:
            message = f"{routing.environment} has an experiment already, on {', '.join(running.candidates)}"
            raise CanaryRefused(f"{message}: {running.id}.", f"shokado experiment stop {running.id}")

    def _under_way(self) -> Routing:
        """The routing in which a canary is under way. Raises `CanaryRefused`."""
        routing = self._gateway.routing()
        if routing.canary is None:
            why = self._gateway.moved_by_experiment(routing)
            message = f"No canary is under way in {routing.environment}: {routing}; the active version is"
            message += f" {routing.active}." if why is None else f" {routing.active}. The last one ended in {why}"
            raise CanaryRefused(message, "shokado canary start VERSION")
        return routing

    def _experiment(self, routing: Routing) -> ExperimentAnswer | None:
        """The experiment between the two, whoever began it; None where there is none of this canary."""
        last = self._gateway.last_experiment(routing.environment)
        if last is None or (last.control, *last.candidates) != (routing.active, routing.canary):
            return None
        return last if last.ended_at is None or last.ended_at > self._gateway.last_without_canary(routing) else None

    def _join(self, routing: Routing) -> ExperimentAnswer | None:
        """The experiment between the two, begun now if need be; None where the policy wants none."""
        plan = self._policy.experiment
        if plan is None:
            return None
        version = _canary_of(routing)
        return self._experiment(routing) or self._gateway.start_experiment(
            plan.model_dump(mode="json"), routing.active, [version], f"canary of {version}"
        )

    def _judged(self, routing: Routing, at_most_s: float = math.inf, *, begins: bool) -> CanaryStatus:
        """Judge a canary, by its experiment as well.

        `at_most_s` is how long the step has lasted for sure, wherever the gateway's clock was set meanwhile. `begins`:
        an experiment that is wanted and lacking begins now.
        """
        experiment, findings = None, list[Finding]()
        if self._policy.experiment is not None:
            experiment = self._join(routing) if begins else self._experiment(routing)
            must_end = self._policy.step_after(routing.percent) in (None, 100)
            findings.append(followed(experiment, must_end=must_end))
        seconds = min(self._gateway.seconds_unchanged(routing), at_most_s)
        canary, stable = (self._observe(name, seconds) for name in (_canary_of(routing), routing.active))
        judgement = judge(self._policy, canary, stable, seconds, findings)
        return CanaryStatus(routing, seconds, canary, stable, experiment, judgement)

    def _undisturbed(self, started: Routing, expected: Routing | None) -> Routing:
        """The routing as it is. Raises `Overtaken` unless it is as expected, or at least the same canary's."""
        routing = self._gateway.routing()
        if routing.canary != started.canary or routing != (expected or routing):
            raise overtaken(routing)
        return routing

    def _follow(self, status: CanaryStatus) -> Routing:
        routing, version = status.routing, _canary_of(status.routing)
        match status.judgement.verdict:
            case Verdict.FAIL:
                why = f"canary of {version} failed at {routing.percent:g} %: {status.judgement.why}"
                return self._take_back(routing, why)
            case Verdict.PASS if (percent := self._policy.step_after(routing.percent)) is not None:
                why = f"canary of {version} passed at {routing.percent:g} %: {status.judgement.why}"
                return self._give(routing, version, percent, why)
        return routing

    def _follow_through(self, status: CanaryStatus, *, late: bool) -> Routing:
        """Follow the verdict, with the promotion after the last step, and no more patience when it is `late`."""
        after, verdict = self._follow(status), status.judgement.verdict
        if verdict is Verdict.PASS and after == status.routing:
            return self._promote(status)
        if verdict is Verdict.INCONCLUSIVE and late:
            why = f"canary of {_canary_of(after)} aborted at {after.percent:g} %, not judged in time"
            return self._take_back(after, f"{why}: {status.judgement.why}")
        return after

    def _give(self, routing: Routing, version: str, percent: float, why: str) -> Routing:
        weights = {routing.active: 100 - percent, version: percent}
        return self._gateway.change(routing, {"weights": weights, "enabled": True, **self._forced}, why)

    def _promote(self, status: CanaryStatus) -> Routing:
        routing, version = status.routing, _canary_of(status.routing)
        why = f"canary of {version} promoted at {routing.percent:g} %: {status.judgement.verdict}"
        change = {"weights": {routing.active: 0, version: 100}, "active": version, **self._forced}
        return self._end(routing, change, f"{why}: {status.judgement.why}")

    def _take_back(self, routing: Routing, why: str) -> Routing:
        return self._end(routing, {"weights": {routing.active: 100, _canary_of(routing): 0}}, why)

    def _end(self, routing: Routing, change: dict[str, Any], why: str) -> Routing:
        """Make the last change, and before it stop the experiment, which could take back what is promoted."""
        experiment = self._experiment(routing)
        if experiment is not None and experiment.running:
            self._gateway.stop_experiment(experiment.id, why)
        return self._gateway.change(routing, change, why)


def _canary_of(routing: Routing) -> str:
    assert routing.canary is not None
    return routing.canary
