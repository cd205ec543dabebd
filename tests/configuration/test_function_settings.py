"""What a function cannot keep is named with its key, and what it can is heeded."""

from typing import Any

import pytest

from configuration.function_settings import as_function, is_shared, obstacles
from configuration.settings import EngineChoice
from tests.support.settings import paper_settings

PRODUCTION: dict[str, Any] = {"active": "v1", "weights": {"v1": 80, "v2": 20}}


def test_the_usual_configuration_can_be_kept() -> None:
    assert obstacles(paper_settings()) == []


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("versions.v2.placement: service", {"versions": {"v1": {}, "v2": {"placement": "service"}}}),
        (
            "versions.v2.placement: remote",
            {"versions": {"v1": {}, "v2": {"placement": "remote", "remote": {"url": "http://there:3000"}}}},
        ),
        ("grpc.port: 50051", {"grpc": {"port": 50051}}),
        ("log.share: 0.5", {"log": {"share": 0.5}}),
        ("tracing.endpoint", {"tracing": {"endpoint": "http://collector:4318"}}),
        ("cache.backend: redis", {"cache": {"backend": "redis", "url": "redis://there:6379/1"}}),
        ("features.url", {"features": {"url": "http://there:6570", "entities": {"customer_id": "integer"}}}),
        ("segments.features", {"segments": {"features": ["region"]}}),
        ("batches", {"batches": {"input": ["/data"], "output": ["/scores"]}}),
        ("retraining", {"retraining": {"webhook": "https://ci.example/retrain"}}),
        ("access.rates", {"access": {"rates": {"per_address": "5/second"}}}),
        ("environments.production.shadow: v2", {"environments": {"production": {**PRODUCTION, "shadow": "v2"}}}),
        (
            "environments.production.strategy: weighted",
            {"environments": {"production": {**PRODUCTION, "strategy": "weighted"}}},
        ),
    ],
)
def test_what_it_cannot_keep_is_named(key: str, changes: dict[str, Any]) -> None:
    (line,) = obstacles(paper_settings(**changes))
    assert line.startswith(key)
    assert "set" in line or "leave it out" in line


def test_all_obstacles_are_named_at_once() -> None:
    assert len(obstacles(paper_settings(grpc={"port": 50051}, log={"share": 1}))) == 2


@pytest.mark.parametrize(
    ("store", "shared"),
    [
        ("sqlite:///var/{model}.db", False),
        ("redis://there:6379/0", True),
        ("rediss://there:6379/0", True),
        ("redis+sentinel://there:26379/main/0", True),
    ],
)
def test_a_store_of_one_machine_is_nobody_elses(store: str, shared: bool) -> None:
    environments = {"production": {**PRODUCTION, "strategy": "weighted"}}
    settings = paper_settings(store=store, environments=environments)
    assert is_shared(settings) is shared
    assert (obstacles(settings) == []) is shared


def test_the_engine_is_one_that_is_there() -> None:
    settings = paper_settings(versions={"v1": {}, "v2": {"engine": "xgboost"}})
    lean = as_function(settings, {EngineChoice.ONNXRUNTIME})
    assert [spec.engine for spec in lean.versions.values()] == [EngineChoice.ONNXRUNTIME, EngineChoice.XGBOOST]
    whole = as_function(settings, {EngineChoice.ONNXRUNTIME, EngineChoice.XGBOOST})
    assert [spec.engine for spec in whole.versions.values()] == [EngineChoice.AUTO, EngineChoice.XGBOOST]


@pytest.mark.parametrize(("share", "heeded"), [(0.1, 1.0), (0.0, 0.0)])
def test_explanations_need_leave_no_time_for_others(share: float, heeded: float) -> None:
    assert as_function(paper_settings(explanations={"share": share}), ()).explanations.share == heeded
