"""What hears of the predictions and batches of a worker, as the settings have it, and what becomes of what it heard.

observers --> metrics, tallies, evidence, shadow copies with their sampler, recent units, request log, drift, spans
                 ^    every flush adds what these count for themselves
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from configuration.settings import CacheBackend, Settings
from configuration.trace_export import TraceExport
from runners.artefacts.artefact import Artefact
from shokado import __version__
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.experiment import Experiment
from shokado.dispatch.observers import Observers
from shokado.dispatch.shadow import ShadowCopier
from shokado.drift.version_drift import DriftWindow
from shokado.experiments.evidence_counter import EvidenceCounter
from shokado.experiments.experiment_judge import look_at, results_of
from shokado.experiments.segment_counts import Segmenting
from shokado.experiments.selection_sample import SelectionSample
from shokado.experiments.shadow_sampler import ShadowSampler
from shokado.experiments.tallying import Tallying
from shokado.monitoring.drift_watch import CachedAnswers, DriftWatch
from shokado.monitoring.metrics.experiment_figures import ExperimentFigures
from shokado.monitoring.metrics.groups import Metrics
from shokado.monitoring.recent_units import SHARE_EVERY_S, RecentUnits
from shokado.monitoring.request_logger import RequestLogger
from shokado.monitoring.tracing.span_export import SpanExport
from shokado.monitoring.tracing.span_observer import SpanObserver
from shokado.request_log.last_rows import LastRows
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.shipping import LogShipping
from shokado.stores.follower import Follower
from shokado.worker.repeating import repeat

DRIFT_TOLD_EVERY_S = {DriftWindow.HOUR: 15.0, DriftWindow.DAY: 300.0}
"""How often one worker of each machine reads what all counted, for the metrics. A day changes slowly, and is long."""
EXPERIMENTS_TOLD_EVERY_S = 15.0
"""How often one worker of each machine does the same for experiments."""
_TOLD_AFTER_END_S = 86_400.0
"""How long metrics tell of an experiment that has ended: an alert should be seen, and end by itself."""
_SHIPS_IN_S = 1.5
"""How long a stopping worker waits for what it recorded last to be sent; the rest is sent after the next start."""


class WorkerObservers:
    """Make one per worker; an attribute is None where the settings have it off."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        shared_folder: Path,
        name: str,
        metrics: Metrics,
        follower: Follower,
        dispatcher: Dispatcher,
        artefacts: Callable[[], Mapping[str, Artefact]],
        log_key: bytes,
        trace_export: TraceExport | None,
    ) -> None:
        """`name` is the worker's, and `artefacts` are those of the versions in memory.

        `shared_folder` is where all workers of the server write what the others read.
        """
        log, folder = settings.log, settings.log_folder(root)
        self._metrics = metrics
        self._follower = follower
        self.sampler = ShadowSampler(follower, name, settings.shadow.max_kept_requests)
        self.shadow = ShadowCopier(dispatcher, settings.shadow, sample=self.sampler)
        target_ms = settings.weighted.latency_target_ms
        self.tallying = Tallying(follower, target_ms / 1000, seen=dispatcher.seen.flush)
        self.evidence = EvidenceCounter(follower, name, target_ms)
        self.recent_units = RecentUnits(lambda: dispatcher.state.environments, shared_folder, name)
        self.request_log = RequestLogger(log, LogWriter(log, folder, name, log_key)) if log.share else None
        self.last_rows = LastRows(folder) if log.share else None
        self.shipping = LogShipping(log, folder, settings.model, root) if log.sink.url is not None else None
        self.drift = DriftWatch(settings.drift, follower, artefacts) if settings.drift.enabled else None
        caches = settings.cache.backend is not CacheBackend.OFF
        self._cached = CachedAnswers(self.drift) if self.drift is not None and caches else None
        segments = settings.segments
        sampled = bool(segments.features) and segments.share > 0
        self.selections = SelectionSample(follower, Segmenting(segments), segments.share) if sampled else None
        self.spans = None
        if trace_export is not None:
            process = {"service.name": "shokado", "service.version": __version__, "service.instance.id": name}
            self.spans = SpanExport(settings.tracing, trace_export, {**process, "shokado.model": settings.model})

    def subscribe(self, observers: Observers) -> None:
        """Hear of what happens from now on."""
        metrics = self._metrics
        spans = SpanObserver(self.spans.note) if self.spans is not None else None
        always = (metrics.predictions, self.tallying, self.evidence, self.shadow, self.recent_units)
        sometimes = (self.request_log, self.drift, self._cached, self.selections, spans)
        observers.subscribe(
            predictions=(*always, *filter(None, sometimes)),
            batches=tuple(filter(None, (metrics.batches, self.drift, spans))),
        )

    def tasks(self, leads_here: Callable[[], Awaitable[bool]]) -> list[Coroutine[Any, Any, None]]:
        """What is to run while the worker serves; `leads_here` says whether it does what one of each machine should."""
        tasks = [
            self.tallying.run(),
            self.evidence.run(),
            self.sampler.run(),
            repeat(SHARE_EVERY_S, self.recent_units.share),
            repeat(EXPERIMENTS_TOLD_EVERY_S, partial(self.tell_experiments, leads_here)),
        ]
        if self.selections is not None:
            tasks.append(self.selections.run())
        if self.request_log is not None:
            tasks.append(self.request_log.run())
        if self.drift is not None:
            tasks.append(self.drift.run())
            for window, every_s in DRIFT_TOLD_EVERY_S.items():
                tasks.append(repeat(every_s, partial(self.tell_drift, window, leads_here)))
        return tasks

    def flush(self) -> None:
        """Add what they count for themselves to the metrics."""
        metrics = self._metrics
        for pair, compared in self.shadow.flush().items():
            metrics.shadows.compared(pair, compared)
            self.tallying.compared(pair, compared)
        if self.request_log is not None:
            metrics.request_log.recorded(*self.request_log.flush_counts())
            metrics.log_shipping.lost(self.request_log.take_lost_segments())
        if self.shipping is not None:
            metrics.log_shipping.shipped(self.shipping.take())
        if self.spans is not None:
            metrics.traces.exported(self.spans.flush_counts())

    async def stop(self) -> None:
        """Write, send and add what they have heard, after all else has ended."""
        if self.request_log is not None:
            await self.request_log.stop()
        if self.drift is not None:
            await self.drift.flush()
        if self.shipping is not None:
            await self.shipping.finish(_SHIPS_IN_S)
        if self.spans is not None:
            await asyncio.to_thread(self.spans.stop)
        await self.tallying.add()
        if self.selections is not None:
            await self.selections.add()
        await self.evidence.add()
        await self.sampler.add()

    async def tell_drift(self, window: DriftWindow, leads_here: Callable[[], Awaitable[bool]]) -> None:
        """Have the metrics say what all workers counted; every machine says the same."""
        drift = self.drift
        assert drift is not None
        told: list[str] = []
        try:
            for version in drift.versions if await leads_here() else ():
                self._metrics.drift.drifted(await drift.told(version, window))
                told.append(version)
        finally:
            # Also where another worker tells it from now on, and where the store is away.
            self._metrics.drift.unknown(*told)

    async def tell_experiments(
        self, leads_here: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.time
    ) -> None:
        """Have the metrics say how the experiment of each environment stands; every machine says the same."""
        metrics, state = self._metrics.experiments, self._follower.state
        told: list[str] = []
        try:
            environments = state.environments if state is not None and await leads_here() else {}
            for name, environment in environments.items():
                experiment, now = environment.experiment, clock()
                ended = experiment.conclusion if experiment is not None else None
                if experiment is None or (ended is not None and now - ended.at > _TOLD_AFTER_END_S):
                    metrics.without(name)
                else:
                    metrics.told(name, experiment, await self._figures_of(experiment, now))
                told.append(name)
        finally:
            metrics.unknown(told)

    async def _figures_of(self, experiment: Experiment, now: float) -> ExperimentFigures:
        """Raises `StoreUnavailable`."""
        ended = experiment.conclusion
        if ended is not None:
            return ExperimentFigures(ended.result.value, ended.versions)
        look = await look_at(experiment, self._follower, now)
        found = look.judgement
        return ExperimentFigures(
            found.verdict.value, results_of(experiment, look), found.sample_ratio_p_value, found.arrival_p_value
        )
