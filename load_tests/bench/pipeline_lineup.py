"""The contenders that serve a scikit-learn pipeline over texts and gaps, in the order of their turns."""

from load_tests.bench import launch
from load_tests.bench.contender import Contender
from load_tests.bench.contender_api import ContenderApi, Format
from load_tests.bench.pipeline_model import MODEL, PICKLE, TEXTS

PIPELINE_SHOKADO = "pipeline-shokado"
PIPELINE_FASTAPI = "pipeline-fastapi"
PIPELINES = (
    Contender(
        PIPELINE_FASTAPI,
        "FastAPI + scikit-learn, 2 workers",
        "uvicorn with uvloop and httptools, 2 processes, pydantic body, `predict_proba` of a DataFrame on one thread.",
        ContenderApi("/predict"),
        launch.fastapi(2, app="fastapi_pipeline_app"),
        packages=("fastapi", "uvicorn", "scikit-learn", "pandas"),
        many_rows=True,
    ),
    Contender(
        "pipeline-mlserver",
        "MLServer, scikit-learn runtime",
        "A tensor for each feature, its codec of DataFrames, adaptive batching of up to 64 within 1 ms, no inference "
        "pool (parallel_workers 0), uvloop below 0.22.",
        ContenderApi(f"/v2/models/{MODEL}/infer", Format.FEATURE_TENSORS, texts=TEXTS),
        launch.mlserver(MODEL, "mlserver_sklearn.SKLearnModel", PICKLE),
        "mlserver-sklearn",
        ("mlserver", "mlserver-sklearn", "scikit-learn", "pandas"),
        many_rows=True,
    ),
    Contender(
        "pipeline-mlflow",
        "MLflow's server, 2 workers",
        "`mlflow models serve`, rows as `dataframe_records`; the model is logged to answer `predict_proba`.",
        ContenderApi("/invocations", Format.RECORDS),
        launch.mlflow(2),
        packages=("mlflow", "scikit-learn", "pandas"),
        many_rows=True,
    ),
    Contender(
        PIPELINE_SHOKADO,
        "**Shokado**, pipeline",
        "2 workers, express lane, rows by name, engine auto.",
        ContenderApi("/v1/models/predict"),
        launch.shokado_of_folder(workers="2"),
        many_rows=True,
    ),
)
