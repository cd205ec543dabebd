"""The contenders in the order of their turns.

Settings for 2 cores: what each manual recommends, and the fastest of those that were tried in short runs, which were
workers, batch size and wait (mosec, LitServe, Ray Serve), inference pool (MLServer), model threads (FastAPI).
"""

from load_tests.bench import launch
from load_tests.bench.contender import Contender, Truth
from load_tests.bench.contender_api import ContenderApi, Format
from load_tests.bench.pipeline_lineup import PIPELINE_FASTAPI, PIPELINE_SHOKADO, PIPELINES

SHOKADO = "shokado"
"""The row that the others are compared with: embedded, express lane, 2 workers, version v1 pinned."""
SHOKADO_OFF, SHOKADO_ON = "shokado-off", "shokado-on"
"""The same without the watch over drift, and with it and the request log of every row."""
SHOKADO_ONE = "shokado-1-worker"
"""One worker with everything on."""

_PREDICT = ContenderApi("/predict")
_TENSORS = ContenderApi("/v2/models/customers/infer", Format.TENSORS)
_SPLIT = ContenderApi("/v1/models/predict")
_PINNED = ContenderApi("/v1/models/predict", extra_headers={"X-Model-Version": "v1"})
_BINARY = ContenderApi("/v1/models/predict", Format.FLOAT32, {"X-Model-Version": "v1"})
_IN_SERVICES = {"versions__v1__placement": "service", "versions__v2__placement": "service"}

OTHERS = (
    Contender(
        "fastapi-1",
        "FastAPI + XGBoost, 1 worker",
        "uvicorn with uvloop and httptools, 1 process, pydantic body, Booster.inplace_predict on one thread.",
        _PREDICT,
        launch.fastapi(1),
        "fastapi",
        ("fastapi", "uvicorn", "xgboost-cpu"),
    ),
    Contender(
        "fastapi-2",
        "FastAPI + XGBoost, 2 workers",
        "The same with 2 uvicorn workers.",
        _PREDICT,
        launch.fastapi(2),
        "fastapi",
        ("fastapi", "uvicorn", "xgboost-cpu"),
        many_rows=True,
    ),
    Contender(
        "fastapi-2-onnx",
        "FastAPI + ONNX Runtime, 2 workers",
        "The same application on ONNX Runtime, one thread a session: how much of the distance is the engine's.",
        _PREDICT,
        launch.fastapi(2, "onnxruntime"),
        "fastapi",
        ("fastapi", "uvicorn", "onnxruntime"),
        many_rows=True,
    ),
    Contender(
        "bentoml",
        "BentoML, stock composition",
        "A gateway and two batchable XGBoost services joined by depends, random split, 1 worker each, "
        "max_batch_size 256, max_latency_ms 1000; installed as `pip install bentoml` does it.",
        _PREDICT,
        launch.bentoml,
        "bentoml",
        ("bentoml", "xgboost-cpu"),
        many_rows=True,
    ),
    Contender(
        "bentoml-uvloop",
        "BentoML, stock composition + uvloop",
        "The same with uvloop and httptools installed, which uvicorn then uses.",
        _PREDICT,
        launch.bentoml,
        "bentoml-uvloop",
        ("bentoml", "uvloop", "xgboost-cpu"),
    ),
    Contender(
        "mosec",
        "mosec + XGBoost",
        "Rust front, 1 Python worker, batches of up to 32 that wait 1 ms (its least), JSON by msgspec.",
        ContenderApi("/inference"),
        launch.mosec(1),
        "mosec",
        ("mosec", "msgspec", "xgboost-cpu"),
        many_rows=True,
    ),
    Contender(
        "mosec-onnx",
        "mosec + ONNX Runtime",
        "The same with 2 Python workers on ONNX Runtime, one thread a session.",
        ContenderApi("/inference"),
        launch.mosec(2, "onnxruntime"),
        "mosec",
        ("mosec", "msgspec", "onnxruntime"),
    ),
    Contender(
        "mlserver",
        "MLServer, XGBoost runtime",
        "Adaptive batching of up to 64 within 1 ms, no inference pool (parallel_workers 0, faster here than 1 or 2); "
        "the artefact is a bare Booster, whose `predict` output is the probability; "
        "uvloop below 0.22, without which its pool does not start; "
        "xgboost instead of xgboost-cpu, installed without NCCL.",
        _TENSORS,
        launch.mlserver("customers", "mlserver_xgboost.XGBoostModel", "model.ubj"),
        "mlserver",
        ("mlserver", "mlserver-xgboost", "xgboost"),
        many_rows=True,
    ),
    Contender(
        "litserve",
        "LitServe + XGBoost",
        "2 API server processes, 1 inference process, batches of up to 64 within 1 ms.",
        _PREDICT,
        launch.litserve,
        "litserve",
        ("litserve", "xgboost-cpu"),
    ),
    Contender(
        "ray",
        "Ray Serve + XGBoost",
        "@serve.batch of up to 64 within 1 ms, 2 replicas behind HAProxy (RAY_SERVE_ENABLE_HA_PROXY), "
        "RAY_SERVE_THROUGHPUT_OPTIMIZED.",
        _PREDICT,
        launch.ray,
        "ray",
        ("ray", "xgboost-cpu"),
    ),
)

SHOKADOS = (
    Contender(
        SHOKADO,
        "**Shokado**",
        "2 workers, express lane, both versions embedded, every request pinned to v1, engine auto.",
        _PINNED,
        launch.shokado(workers="2"),
        many_rows=True,
    ),
    Contender(
        "shokado-split",
        "Shokado, split traffic",
        "The same without pinning: the configured split sends part of the requests to v2, another model.",
        _SPLIT,
        launch.shokado(workers="2"),
        truth=Truth.SPLIT,
    ),
    Contender(
        "shokado-binary",
        "Shokado, float32 rows",
        "As the first, with float32 rows in and float32 scores out instead of JSON.",
        _BINARY,
        launch.shokado(workers="2"),
        many_rows=True,
    ),
    Contender(
        "shokado-service",
        "Shokado, placement service",
        "2 workers, express lane, each version in a BentoML service of its own.",
        _PINNED,
        launch.shokado(workers="2", **_IN_SERVICES),
        many_rows=True,
    ),
    Contender(
        "shokado-asgi",
        "Shokado, express lane off",
        "2 workers, embedded, answered by BentoML's ASGI application.",
        _PINNED,
        launch.shokado(workers="2", express_lane="false"),
    ),
    Contender(
        SHOKADO_OFF,
        "Shokado, drift and request log off",
        "As the first, without the watch over drift (`drift.enabled: false`); the request log is off there as well.",
        _PINNED,
        launch.shokado(workers="2", drift__enabled="false"),
        many_rows=True,
    ),
    Contender(
        SHOKADO_ON,
        "Shokado, drift and request log on",
        "As the first, with drift, and every row is recorded (`log.share: 1`) in files of this machine.",
        _PINNED,
        launch.recording(workers="2", drift__enabled="true"),
        many_rows=True,
    ),
    Contender(
        SHOKADO_ONE,
        "Shokado, 1 worker, everything on",
        "1 worker, express lane, both versions embedded, split traffic, drift and the request log of every row: what "
        "one CPU serves, and in how much memory.",
        _SPLIT,
        launch.recording(workers="1", drift__enabled="true"),
        truth=Truth.SPLIT,
    ),
)

HOPS = (
    Contender(
        "shokado-remote",
        "Shokado, placement remote",
        "A gateway with 2 workers; both versions in another Shokado with 1 worker, over HTTP with binary tensors.",
        _PINNED,
        launch.remote,
        many_rows=True,
    ),
    Contender(
        "shokado-nginx",
        "Shokado behind the NGINX gateway",
        "As the first, behind NGINX as `k8s/gateway` has it, with its log, without its bound of requests; on the same "
        "cores.",
        _PINNED,
        launch.behind_nginx,
        many_rows=True,
    ),
    Contender(
        "shokado-container",
        "Shokado in its container",
        "The image as `make image` builds it: read-only, without capabilities, 2 workers, on the host's network.",
        _PINNED,
        launch.container,
        many_rows=True,
    ),
)
"""Ways to deploy it, each of which costs something. What they need besides may be missing."""

LIMIT = Contender(
    "nginx",
    "nginx, a constant (the limit)",
    "2 workers, `return 200` with JSON of the size of a Shokado answer, no log.",
    _SPLIT,
    launch.nginx,
    truth=Truth.NONE,
)

LINEUP = (*OTHERS, *SHOKADOS, *HOPS, LIMIT, *PIPELINES)
QUICK = ("fastapi-2", SHOKADO, SHOKADO_OFF, SHOKADO_ON, PIPELINE_FASTAPI, PIPELINE_SHOKADO)
"""What `--quick` runs: enough to see in CI that the benchmark works and Shokado is the faster one."""


def contender_named(name: str) -> Contender:
    """The one of that name, which there must be."""
    return next(contender for contender in LINEUP if contender.name == name)
