"""Load tests with locust: `make load PROFILE=smoke`, or `locust -f load_tests/locustfile.py` in the project's root.

What is sent, by whom, and what must hold is a profile (`profiles.yaml`); what a request is and how its answer is read
is in `load_tests.traffic`. Here they become locust's users and shape. Requests leave when they are due, whatever became
of those before (an open loop), and times count from then. Exit code: 0 all thresholds held, 1 some did not, 2 wrong
usage or no server, 3 inconclusive, because the load was not made as it should have been or the server does not tell.
"""

import logging
import signal
import ssl
import sys
import time
from abc import abstractmethod
from pathlib import Path
from random import Random
from typing import Any

import gevent
import msgspec
import psutil
from gevent.pool import Group
from locust import FastHttpUser, LoadTestShape, events, task
from locust.runners import MasterRunner, WorkerRunner

from load_tests.traffic import counts as wire
from load_tests.traffic import question as ask
from load_tests.traffic.answer import Answer, WrongAnswer
from load_tests.traffic.arrivals import Arrivals
from load_tests.traffic.assessment import LATE_SHARE, Assessment, Conclusion, assess
from load_tests.traffic.control import CannotAsk, ask_model, ask_routing
from load_tests.traffic.counts import Counts
from load_tests.traffic.histogram import Histogram
from load_tests.traffic.profile import PROFILES, Kind, Profile, ProfileError, load_profile
from load_tests.traffic.question import Question
from load_tests.traffic.routing import Generation
from load_tests.traffic.run_report import Run, as_text, rate_of, with_section
from load_tests.traffic.server_address import DEFAULT_PORT, WrongAddress, server_url
from load_tests.traffic.target_model import TargetModel
from load_tests.traffic.watch import Watch

ANSWER_TIMEOUT_S = 10
"""Seconds after which a missing answer is an error."""
REFUSALS = (429, 503)
SPAWN_RATE = 100
"""Users started or stopped a second, in each process; more are too much for locust."""
now_s = time.perf_counter
logging.getLogger("httpx").setLevel(logging.WARNING)


class RunState:
    """What the users of this process share: what to do, what was seen, and since when."""

    name: str
    """The profile's name."""
    profile: Profile
    model: TargetModel
    headers: dict[str, str]
    random: Random
    assessment: Assessment

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin to count."""
        self.started_s = now_s()
        self.counts = Counts()
        """What a worker counted since it last told the master; at the master, what all counted."""
        self.lateness = Histogram()
        """How late requests were sent in the second that passes."""
        self.bottleneck = ""
        """Why this process cannot keep up; empty while it can."""
        self.complete = False
        """Whether all stages are over."""


LOAD = RunState()


def trusted(**_: Any) -> ssl.SSLContext:
    """Whom this machine trusts, or `SSL_CERT_FILE` names."""
    return ssl.create_default_context()


class OpenLoopUser(FastHttpUser):
    """Sends requests when its Poisson process says so, each in a greenlet of its own."""

    abstract = True
    network_timeout = connection_timeout = ANSWER_TIMEOUT_S
    ssl_context_factory = staticmethod(trusted)
    concurrency = 20
    """Connections of one user; when all wait for answers, the next request's time runs on."""
    kind: Kind

    def on_start(self) -> None:
        self._arrivals = Arrivals(LOAD.profile.user_rate, now_s(), LOAD.random)
        self._under_way = Group()

    def wait_time(self) -> float:
        """Seconds until the next request is due."""
        return max(0.0, self._arrivals.next_s - now_s())

    @task
    def send_what_is_due(self) -> None:
        for due_s in self._arrivals.until(now_s()):
            if LOAD.bottleneck:
                return
            self._under_way.spawn(self._ask, due_s)

    def on_stop(self) -> None:
        """Wait for the answers that are still to come, unless the run is not to be judged anyway."""
        if not LOAD.bottleneck:
            self._under_way.join(timeout=ANSWER_TIMEOUT_S)
            for _ in self._under_way:
                LOAD.counts.fail(len(LOAD.profile.stages) - 1, "no answer by the end")
        self._under_way.kill(block=False)

    @abstractmethod
    def question(self) -> Question:
        """The next request."""

    def answered(self, answer: Answer) -> None:
        """What a user does with an answer."""

    def _ask(self, due_s: float) -> None:
        if LOAD.bottleneck:
            return
        lateness_s = now_s() - due_s
        LOAD.counts.lateness.add(lateness_s)
        LOAD.lateness.add(lateness_s)
        try:
            question = self.question()
            answer = self._send(question.name, question.path, question.body, question.headers, due_s, question)
            if answer is not None:
                self.answered(answer)
        except Exception as error:
            # A request that this program lost must not be missing from the assessment.
            LOAD.counts.fail(LOAD.profile.stage_at(due_s - LOAD.started_s), f"the load test failed: {error!r}"[:200])
            raise

    def _send(
        self, name: str, path: str, body: Any, headers: Any, due_s: float, question: Question | None
    ) -> Answer | None:
        """Send it, read the answer and count it; what is no prediction (no question) must only be taken."""
        stage = LOAD.profile.stage_at(due_s - LOAD.started_s)
        sent = {"Accept-Encoding": "identity", **LOAD.headers, **headers}
        answer = None
        with self.client.request("POST", path, name, body, catch_response=True, headers=sent) as response:
            latency_s = now_s() - due_s
            # Locust counts from when it was sent; so does its report, unless it is told when it was due.
            response.request_meta["response_time"] = latency_s * 1000
            status = response.status_code
            if status in REFUSALS and "retry-after" in response.headers:
                LOAD.counts.add_refusal(stage, latency_s)
                response.request_meta["name"] = f"{name}: refused, {status}"
                response.success()
            elif status not in (0, 200):
                self._failed(stage, f"{name}: status {status}: {response.text}", response)
            elif broken := response.request_meta["exception"] or getattr(response, "error", None):
                self._failed(stage, f"{name}: no answer: {broken!r}", response)
            elif question is None:
                self._check_taken(stage, response)
            else:
                try:
                    answer = question.read(LOAD.model, question.rows, response.headers, response.content)
                    LOAD.counts.add_answer(stage, latency_s, answer, question.unit)
                except (WrongAnswer, ValueError) as error:
                    self._failed(stage, f"{name}: wrong answer: {error}", response)
        return answer

    def _check_taken(self, stage: int, response: Any) -> None:
        """Check the answer to feedback."""
        if b'"accepted":1' in response.content:
            LOAD.counts.feedback += 1
            response.success()
        else:
            self._failed(stage, f"feedback was not taken: {response.text}", response)

    @staticmethod
    def _failed(stage: int, complaint: str, response: Any) -> None:
        LOAD.counts.fail(stage, complaint[:200])
        response.failure(complaint[:200])


class SingleUser(OpenLoopUser):
    """A user who sends one row a request, in three dialects."""

    kind = Kind.SINGLE

    def question(self) -> Question:
        return ask.one_row(LOAD.model, LOAD.random)


class BatchUser(OpenLoopUser):
    """A user who sends many rows a request, as JSON and packed."""

    kind = Kind.BATCH

    def question(self) -> Question:
        return ask.many_rows(LOAD.model, LOAD.random, LOAD.profile.batch_rows)


class StickyUser(OpenLoopUser):
    """One row of somebody who must keep their version, and feedback for it.

    All such users, in all processes, are the same units, so that a unit is seen over many connections.
    """

    kind = Kind.STICKY

    def question(self) -> Question:
        return ask.sticky_row(LOAD.model, LOAD.random, f"load-test-{LOAD.random.randrange(LOAD.profile.units)}")

    def answered(self, answer: Answer) -> None:
        self._send("feedback", "/v1/feedback", ask.feedback(LOAD.model, answer, LOAD.random), ask.JSON, now_s(), None)


class OpenInferenceUser(OpenLoopUser):
    """A few rows by the Open Inference Protocol, as JSON and binary tensors."""

    kind = Kind.OPEN_INFERENCE

    def question(self) -> Question:
        return ask.inference(LOAD.model, LOAD.random)


USERS: tuple[type[OpenLoopUser], ...] = (SingleUser, BatchUser, StickyUser, OpenInferenceUser)


class ProfileShape(LoadTestShape):
    """As many users as make the profile's rate, until all have their answers, or the generator cannot keep up."""

    _drained_by_s: float | None = None
    _told = -1

    def reset_time(self) -> None:
        self._drained_by_s = None
        super().reset_time()

    def tick(self) -> tuple[int, float] | None:
        seconds = self.get_run_time()
        users = None if LOAD.counts.doubt else LOAD.profile.users_at(seconds)
        if users is not None:
            self._tell(LOAD.profile.stage_at(seconds))
            return users, SPAWN_RATE
        LOAD.complete = not LOAD.counts.doubt
        # Users are stopped before locust quits: a worker that is still waiting then would not tell what it saw.
        if self._drained_by_s is None:
            self._drained_by_s = now_s() + 2 * ANSWER_TIMEOUT_S
        if self.get_current_user_count() and now_s() < self._drained_by_s:
            return 0, SPAWN_RATE
        return None

    def _tell(self, index: int) -> None:
        """Say which stage begins."""
        if index != self._told:
            self._told = index
            stages, stage = LOAD.profile.stages, LOAD.profile.stages[index]
            words = f"{rate_of(stage)} requests/s for {stage.seconds:g} s"
            print(f"{LOAD.name}, stage {index + 1} of {len(stages)}: {words}", flush=True)


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """`--profile` and `--host` are locust's own."""
    parser.add_argument("--profiles", default=str(PROFILES), metavar="FILE", help="where the profiles are")
    parser.add_argument(
        "--key", env_var="SHOKADO_API_KEY", default="", is_secret=True, help="sent as X-API-Key; role predict is enough"
    )
    parser.add_argument("--environment", default="", help="whose split decides, such as staging; else the server's own")
    parser.add_argument("--server-port", type=int, default=DEFAULT_PORT, help="of a --host that names none")
    parser.add_argument(
        "--control", default="", metavar="URL",
        help="where models and history are asked for, if a gateway in front does not show them",
    )  # fmt: skip


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Read the profile, and see that there is something to load. Ends the program with 2 where not."""
    options = environment.parsed_options
    LOAD.headers = {"X-API-Key": options.key} if options.key else {}
    if options.environment:
        LOAD.headers["X-Environment"] = options.environment
    LOAD.name = options.profile or "smoke"
    # Not earlier: locust forks its workers, and they would all send the same at the same time.
    LOAD.random = Random()
    try:
        if environment.host:
            environment.host = server_url(environment.host, options.server_port)
        LOAD.profile = load_profile(LOAD.name, Path(options.profiles))
        # A worker may be told to begin while it waits for an answer; it gets the model from the master, with that word.
        if not isinstance(environment.runner, WorkerRunner):
            LOAD.model = ask_model(control_url(environment), LOAD.headers)
            options.model = msgspec.json.encode(LOAD.model).decode()
    except (ProfileError, CannotAsk, WrongAddress) as error:
        if not isinstance(environment.runner, WorkerRunner):
            print(f"load: {error}", file=sys.stderr)
        sys.exit(Conclusion.WRONG_USAGE)
    for user in USERS:
        user.weight = LOAD.profile.users.get(user.kind, 0)
    if not isinstance(environment.runner, MasterRunner):
        gevent.spawn(watch)


@events.init.add_listener
def stop_when_told(environment: Any, **_: Any) -> None:
    """End the run in order at SIGINT; a second one ends the program.

    Locust waits for a `KeyboardInterrupt`, which never comes in a program that a shell began in the background, and is
    lost where it is raised in a callback: the run went on to its end then.
    """

    def stop() -> None:
        waiting.cancel()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        environment.runner.quit()

    waiting = gevent.signal_handler(signal.SIGINT, stop)


def control_url(environment: Any) -> str:
    control: str = environment.parsed_options.control or environment.host or ""
    return server_url(control, environment.parsed_options.server_port) if control else ""


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    """Forget what an earlier run in locust's web interface saw."""
    LOAD.model = msgspec.json.decode(environment.parsed_options.model, type=TargetModel)
    LOAD.start()


def watch() -> None:
    """Look once a second whether this process keeps up."""
    watched = Watch(LATE_SHARE * LOAD.profile.thresholds.p99_ms / 1000)
    process = psutil.Process()
    process.cpu_percent()
    while True:
        gevent.sleep(1)
        lateness, LOAD.lateness = LOAD.lateness, Histogram()
        LOAD.bottleneck = LOAD.bottleneck or watched.second(process.cpu_percent(), lateness)
        LOAD.counts.doubt = LOAD.counts.doubt or LOAD.bottleneck


@events.report_to_master.add_listener
def tell_master(data: dict[str, Any], **_: Any) -> None:
    data["counts"] = wire.encode(LOAD.counts)
    LOAD.counts = Counts()


@events.worker_report.add_listener
def hear_worker(data: dict[str, Any], **_: Any) -> None:
    LOAD.counts.merge(wire.decode(data["counts"]))


@events.quitting.add_listener
def conclude(environment: Any, **_: Any) -> None:
    """Assess the run, add the assessment to locust's HTML report, and set the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        return
    LOAD.counts.doubt = LOAD.counts.doubt or reason_for_doubt(environment.runner)
    LOAD.assessment = assessment_of(environment)
    if (html := environment.parsed_options.html_file) and Path(html).exists():
        Path(html).write_text(with_section(Path(html).read_text(), run()))
    environment.process_exit_code = int(LOAD.assessment.conclusion)
    # After locust's own tables.
    events.quit.add_listener(lambda **_: print(f"\n{as_text(run())}"))


def reason_for_doubt(runner: Any) -> str:
    """Why the run is not what the profile says; empty when it is."""
    if isinstance(runner, MasterRunner) and runner.clients.missing:
        return "a process of the generator was lost, with what it saw"
    return "" if LOAD.complete else "the run was stopped before its end"


def run() -> Run:
    return Run(LOAD.name, LOAD.profile, LOAD.counts, LOAD.assessment)


def assessment_of(environment: Any) -> Assessment:
    """The assessment, for which the server is asked what its split was."""
    counts = LOAD.counts
    oldest = min((*counts.split, *counts.units), default=1)
    routing: dict[int, Generation] | str
    try:
        routing = ask_routing(control_url(environment), LOAD.headers, oldest)
    except CannotAsk as error:
        routing = str(error)
    return assess(LOAD.profile, counts, routing)
