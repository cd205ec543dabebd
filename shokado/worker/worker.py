"""A worker: everything that one process of the server is made of, and the tasks that keep it going.

store --> follower --> fleet and dispatcher --> entrance (predictions)
  ^          ^------------------------------------ control routes
  `-- tallies: outcomes, feedback, comparisons with shadows
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from configuration.settings import Settings
from configuration.trace_export import TraceExport
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.artefacts.scores import bounds_of, bounds_of_outputs
from runners.engines.engine import import_xgboost_alone
from runners.engines.watchdog import Watchdog
from runners.inputs.rows import RowReader
from runners.inputs.schema import Feature
from runners.inputs.union import format_of_versions
from runners.version_state import VersionState
from shokado.access.gate import Gate
from shokado.batches.batch_jobs import BatchJobs
from shokado.dispatch.change import KnownVersions
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.experiment_change import experiments_of
from shokado.dispatch.explainer import Explainer
from shokado.dispatch.observers import Observers
from shokado.dispatch.opening_cache import open_cache
from shokado.dispatch.request_span import Sampler
from shokado.dispatch.state import RoutingState, initial_state
from shokado.experiments.experiment_judge import JUDGE_EVERY_S, ExperimentJudge, pairs_to_keep
from shokado.experiments.feedback_collector import FeedbackCollector
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.seals import LEARN_EVERY_S, Seals
from shokado.experiments.segment_counts import Segmenting
from shokado.experiments.tuner import Tuner
from shokado.features.opening_lookup import open_lookup
from shokado.monitoring.drift_watch import KEEP_S as KEEP_DRIFT_S
from shokado.monitoring.metrics.folder import prepare_folder
from shokado.monitoring.metrics.groups import Metrics
from shokado.monitoring.metrics.metric_registry import FLUSH_EVERY_S
from shokado.monitoring.metrics.system import LOOK_EVERY_S
from shokado.monitoring.statistics import Statistics
from shokado.monitoring.timeline import Timeline
from shokado.request_log.masking import KEY_BYTES
from shokado.retraining.hook import RetrainingHook
from shokado.stores.follower import KEEP_REPORT_S, Follower
from shokado.stores.machine import Machine
from shokado.stores.opening import open_store
from shokado.stores.pairs import FORGET_EVERY_S
from shokado.stores.store import Entry, WorkerReport
from shokado.stores.tally_sums import TallySums
from shokado.transports.call import Entrance
from shokado.worker.observing import WorkerObservers
from shokado.worker.parts import WorkerParts
from shokado.worker.readiness import ReadinessLog, versions_everywhere, why_not_ready
from shokado.worker.repeating import repeat
from shokado.worker.replacement import Replacement
from shokado.worker.retraining_causes import RetrainingCauses
from shokado.worker.stopping import LEEWAY_S, Stopping, end_idle, end_process
from shokado.worker.supervision import ask_for_another_worker
from shokado.worker.versions.fleet import Fleet
from shokado.worker.versions.loading import Loader
from shokado.worker.versions.trials import Trials

ROOT = Path(__file__).resolve().parents[2]
HOUSEKEEPING_EVERY_S = 5.0
"""How often a worker looks after what nobody waits for."""
_DAY_S = 86_400.0
"""How long the evidence of an experiment is kept after its end."""
_LISTENS_S = 1.0
"""How long a worker sees rows beside versions of new features before it says that it has heard some."""
_FLEET_STOPS_IN_S = LEEWAY_S / 2
"""Half the leeway, so that the other half is left for the store and the rest."""

logger = logging.getLogger("bentoml.shokado")


class Worker:
    """Make one per process, on its event loop."""

    def __init__(
        self,
        settings: Settings,
        artefacts: Mapping[str, Artefact],
        service_urls: Mapping[str, str],
        gate: Gate,
        secret: bytes | None,
        read_as: Callable[[RowReader], None] = lambda _: None,
        log_key: bytes = bytes(KEY_BYTES),
        trace_export: TraceExport | None = None,
    ) -> None:
        """`artefacts` are the configured versions'; `service_urls` say where versions with a service listen.

        `secret` seals prediction ids, where one is configured. `read_as` is told how requests are to be read whenever
        that changes, before the next one is dispatched. `log_key` is what the request log hashes values with.
        `trace_export` says where spans go; None: none are made.
        """
        import_xgboost_alone()
        card = next(iter(artefacts.values())).card
        self.settings = settings
        self.folder = prepare_folder()
        classes = tuple(str(label) for label in card.classes)
        self.metrics = Metrics(
            settings.versions, bounds_of(card), classes, bounds_of_outputs(card), settings.log_folder(ROOT)
        )
        self.observers = Observers(asyncio.get_running_loop().call_later)
        self.gate = gate
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        store = open_store(settings.store, settings.model, ROOT)
        self.follower = Follower(store, settings, self._adopt, self._report, self.folder / "routing.json")
        self.tally_sums = TallySums(store)
        cache = open_cache(settings, asyncio.get_running_loop().call_soon)
        settle = cache.settle if cache is not None else None
        machine = Machine.of(settings.store, settings.model)
        trials = Trials(settings, machine)
        leeway_s = LEEWAY_S + (settings.grpc.drain_s if settings.grpc.port is not None else 0.0)
        self.stopping = Stopping(settings.shutdown.pause_s, settings.shutdown.drain_s, leeway_s)
        self.replacement = Replacement(
            self.stopping, self.name, settings.worker_count, self.folder, ask_for_another_worker
        )
        self.fleet = Fleet(
            settings,
            artefacts,
            self.observers,
            service_urls,
            self._fleet_changed,
            trials,
            settle=settle,
            lost=self.replacement.want,
            watch=Watchdog(self.folder, end_process),
        )
        nowhere = RoutingState(0, {}, settings.default_environment)
        self.dispatcher = Dispatcher({}, settings.aliases, nowhere, cache, self.observers)
        self._artefacts = artefacts
        self._read_as = read_as
        self._features: dict[str, tuple[Feature, ...]] = {}
        """What each version takes, as requests are read for it."""
        self._features_changed_at = -inf
        max_age_s = settings.feedback.max_age_hours * 3600
        # None is made before `Seals.start` has found what all make them with.
        self.segmenting = Segmenting(settings.segments)
        self.ids = PredictionIds(secrets.token_bytes(32), max_age_s, levels=self.segmenting.of)
        self.seals = Seals(self.follower, self.ids, machine, secret, max_age_s)
        self.observing = WorkerObservers(
            settings,
            ROOT,
            self.folder,
            self.name,
            self.metrics,
            self.follower,
            self.dispatcher,
            lambda: self.fleet.artefacts,
            log_key,
            trace_export,
        )
        self.observing.subscribe(self.observers)
        self.entrance = self._opened_entrance()
        self.loader = Loader(settings, artefacts, self.follower, trials, known=lambda: self.fleet.artefacts)
        self.timeline = Timeline(Statistics(self.folder, disk_folder=settings.log_folder(ROOT)))
        request_log = self.observing.request_log
        accepted = request_log.feedback if request_log is not None else None
        self.feedback = FeedbackCollector(
            self.follower,
            self.ids,
            self._cards,
            max_age_s,
            self.seals.look_again,
            accepted=accepted,
            segmenting=self.segmenting,
        )
        self._tuner = Tuner(self.follower, self.leads, self.versions, settings, np.random.default_rng())
        self.retraining = self._retraining_hook() if settings.retraining.enabled else None
        self.explainer = Explainer(settings.explanations, lambda: self.fleet.artefacts, lambda: self.fleet.runners)
        self.features = open_lookup(settings.features)
        self._cache = cache
        self._tasks: list[asyncio.Task[None]] = []
        self._readiness = ReadinessLog()
        self._started = False
        self._has_served = False

    async def start(self) -> None:
        """Read the routing, get the versions ready, and begin to follow what others change."""
        if self.observing.spans is not None:
            self.observing.spans.start()
        await self.follower.start()
        await self.seals.start()
        self._started = True
        configured = initial_state(self.settings)
        self._tell_what_differs(configured)
        await self.fleet.start(self.follower.state or configured)
        self._reroute()
        self._tasks = [
            asyncio.create_task(work)
            for work in (
                self.timeline.run(),
                repeat(FLUSH_EVERY_S, self._flush),
                repeat(LEARN_EVERY_S, self.seals.learn),
                repeat(LOOK_EVERY_S, self.metrics.machine.look),
                repeat(HOUSEKEEPING_EVERY_S, self._consider_replacement),
                repeat(HOUSEKEEPING_EVERY_S, self._keep_house),
                repeat(FORGET_EVERY_S, self._forget),
                repeat(self.settings.weighted.update_every_s, self._tuner.update),
                repeat(JUDGE_EVERY_S, ExperimentJudge(self.follower, self.leads, self.versions).look_at_all),
                *self.observing.tasks(self._leads_here),
            )
        ]
        if self.retraining is not None:
            look_every_s = self.settings.retraining.look_every_s
            self._tasks.append(asyncio.create_task(repeat(look_every_s, self.retraining.look)))
        if self.gate.watch is not None:
            self._tasks.append(asyncio.create_task(self.gate.watch.run()))
        if self.observing.shipping is not None:
            self.observing.shipping.start()

    async def stop(self) -> None:
        """Answer what is under way, and let go of everything."""
        await self.loader.stop()
        await self.explainer.stop()
        # Requests have been answered or given up by now: what is still under way in an engine need not end.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.fleet.stop(), _FLEET_STOPS_IN_S)
        await self.observing.shadow.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.retraining is not None:
            await self.retraining.stop()
        if self._cache is not None:
            await self._cache.close()
        if self.features is not None:
            await self.features.close()
        await self._flush()
        await self.observing.stop()
        await self.follower.stop()
        if self.gate.rates is not None:
            await self.gate.rates.close()

    @property
    def parts(self) -> WorkerParts:
        """What the control routes work with."""
        batches = self.settings.batches
        return WorkerParts(
            self.dispatcher,
            self.follower,
            self.fleet,
            self.loader,
            self.feedback,
            self.timeline,
            self.folder,
            self.tally_sums,
            is_stopping=lambda: self.stopping.begun,
            last_rows=self.observing.last_rows,
            tally=self.observing.tallying.add,
            drift=self.observing.drift,
            recent_units=self.observing.recent_units,
            retraining=self.retraining,
            batches=BatchJobs(batches, self.settings.batches_folder(ROOT), ROOT) if batches.enabled else None,
        )

    async def versions(self) -> KnownVersions:
        """The versions as changes see them: ready where every worker has them ready. Raises `StoreUnavailable`."""
        return await versions_everywhere(self.parts)

    async def leads(self) -> bool:
        """Whether this worker does what only one of all should. Raises `StoreUnavailable`."""
        return await self._takes("all")

    async def _leads_here(self) -> bool:
        """Whether this worker does what one of each machine should. Raises `StoreUnavailable`."""
        return await self._takes(f"machine {socket.gethostname()}")

    async def _takes(self, role: str) -> bool:
        return await self.follower.ask(self.follower.store.take_role, role, self.name, KEEP_REPORT_S, time.time())

    async def _reports(self) -> Sequence[WorkerReport]:
        return await self.follower.ask(self.follower.store.reports, time.time())

    def _retraining_hook(self) -> RetrainingHook:
        settings = self.settings
        causes = RetrainingCauses(
            settings.retraining, lambda: self.follower.state, self.observing.drift, lambda: self._tuner.past
        )
        return RetrainingHook(
            settings.retraining, settings.model, ROOT, self.name, self.follower, self.leads, causes.now
        )

    def _opened_entrance(self) -> Entrance:
        settings = self.settings
        sampler = Sampler(settings.tracing.share) if self.observing.spans is not None else None
        return Entrance(self.dispatcher, self.observers, self.ids, settings.limits.max_body_bytes, sampler)

    def _report(self) -> WorkerReport:
        state = self.follower.state
        return WorkerReport(
            self.name,
            socket.gethostname(),
            os.getpid(),
            state.generation if state is not None else 0,
            time.time(),
            self.fleet.versions(),
            self.fleet.candidates(),
            self._heard(),
        )

    def _heard(self) -> tuple[str, ...]:
        """The versions beside which this worker has seen rows for a while, and told what they had."""
        is_told = self.observing.tallying.told_until >= self._features_changed_at + _LISTENS_S
        return tuple(self._features) if is_told else ()

    def _adopt(self, entry: Entry) -> None:
        """Adopt a newer routing, before anybody else hears of it."""
        if self._started:
            self.fleet.adopt(entry.state)
            self._reroute()

    def _fleet_changed(self) -> None:
        self._has_served |= any(runner.ready for runner in self.fleet.runners.values())
        if not self._has_served:
            _end_without_versions(self.fleet)
        self._reroute()

    def _tell_what_differs(self, configured: RoutingState) -> None:
        """Log where the store overrules the configuration: who has just edited `serving.yaml` should not wonder."""
        state = self.follower.state or configured
        for name, environment in state.environments.items():
            wanted = configured.environments[name]
            # An older store has another default salt, which is as good as today's.
            salt = wanted.salt if self.settings.environments[name].salt else environment.salt
            if environment != replace(wanted, salt=salt):
                words = "environment %s is not as configured, but as it was left in %s"
                logger.info(words, name, self.follower.store.name)

    def _reroute(self) -> None:
        """Go by the newest routing from the next request on, with the runners that there are."""
        state = self.follower.state
        if state is None:
            return
        for version in self.fleet.runners:
            self.metrics.registry.add_version(version)
        self._follow_features()
        self.dispatcher.adopt(state, self.fleet.runners, self.fleet.versions())
        self.observing.evidence.adopt(state)
        shares = {
            (name, version): share
            for name, environment in state.environments.items()
            for version, share in environment.traffic.items()
        }
        self.metrics.routing.routed(state.generation, shares)

    def _follow_features(self) -> None:
        """Read requests as the known versions take them, also those that are not in memory now."""
        known = {**self._artefacts, **self.fleet.artefacts}
        features = {version: artefact.card.features for version, artefact in known.items()}
        if features == self._features:
            return
        if self._features:
            self._features_changed_at = time.monotonic()
        self._features = features
        first = next(iter(self._artefacts.values())).card.features
        row_format = self.dispatcher.row_format = format_of_versions(first, features, self.settings.limits)
        self._read_as(row_format)

    def _cards(self) -> dict[str, Card]:
        return {version: artefact.card for version, artefact in self.fleet.artefacts.items()}

    async def _flush(self) -> None:
        """Add what was noted to the metrics, and look at what parts count for themselves."""
        self.observers.tell()
        self._readiness.look(self.parts)
        self.observing.flush()
        if self._cache is not None:
            for version, found in self._cache.flush().items():
                self.metrics.cache.looked_up(version, found)
        if self.features is not None:
            self.metrics.features.looked_up(self.features.flush())
        for version, explained in self.explainer.flush().items():
            self.metrics.explanations.explained(version, explained)
        if self.retraining is not None:
            self.metrics.retraining.called(self.retraining.flush_counts())
        self.metrics.explanations.refused(self.explainer.take_refused())
        self.metrics.runners.look(self.fleet.runners)
        self.metrics.routing.store(reached=self.follower.failure is None)
        watch, rates = self.gate.watch, self.gate.rates
        self.metrics.access.asked(*self.gate.take_counts())
        self.metrics.access.state(
            keys_ok=watch is None or watch.failure is None, rates_up=rates is None or not rates.away
        )
        self.metrics.registry.flush()

    async def _keep_house(self) -> None:
        # Who has a role keeps it by asking, and only this asks often enough.
        await self._leads_here()
        if await self.leads():
            await self.loader.drop_expired()

    async def _consider_replacement(self) -> None:
        if self.replacement.why is None:
            return
        reports = await self._reports()
        ready = why_not_ready(self.parts) is None
        self.replacement.consider(reports, self.dispatcher.state.needed, ready=ready)

    async def _forget(self) -> None:
        if await self.leads():
            now = time.time()
            await self.follower.ask(self.follower.store.forget, now - self.settings.feedback.window_hours * 3600, now)
            await self.follower.ask(self.follower.store.forget_binned, now - KEEP_DRIFT_S)
            if (state := self.follower.state) is not None:
                await self.follower.ask(self.follower.store.forget_evidence, experiments_of(state, now - _DAY_S), now)
                await self.follower.ask(self.follower.store.forget_pairs, pairs_to_keep(state, now))
            await self.seals.age(FORGET_EVERY_S)


def _end_without_versions(fleet: Fleet) -> None:
    """End this process where all versions have failed and none is being loaded: a pod should not look as if it ran."""
    reports = fleet.versions()
    if reports and not fleet.candidates() and all(report.state == VersionState.FAILED for report in reports.values()):
        end_idle("; ".join(f"{version}: {report.failure}" for version, report in reports.items()))
