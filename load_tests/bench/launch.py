"""How each contender is started. Every function writes what its contender needs below `site.folder`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from string import Template

from load_tests.bench import nginx_config as gateway
from load_tests.bench.contender import Site
from load_tests.bench.contender_process import HOST, Launch, ServerError
from load_tests.bench.pipeline_model import CONFIGURATION, LOGGED, STORE

ROOT = Path(__file__).resolve().parents[2]
CONTENDERS = Path(__file__).with_name("contenders")
PACKAGE = "load_tests.bench.contenders"
IMAGE = os.environ.get("BENCH_IMAGE", f"shokado:{version('shokado')}")
CONSTANT = (
    '{"predictions":[0.11844956874847412],"classes":[0],"version":"v1","reason":"PINNED","generation":1,'
    '"request_id":"6e48c69387610000000000","prediction_id":"6e48c69387610000000000","latency_ms":0.378}'
)


def project_python() -> Path:
    """The interpreter that runs the benchmark is the one that has Shokado's dependencies."""
    return Path(sys.executable)


def _environment(site: Site, **more: str) -> dict[str, str]:
    path = f"{site.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}
    bench = {"BENCH_MODEL_DIR": str(site.model.folder), "BENCH_PORT": str(site.port), "BENCH_THREADS": "1"}
    return own | bench | more


def fastapi(workers: int, engine: str = "xgboost", app: str = "fastapi_app") -> Callable[[Site], Launch]:
    """uvicorn with `workers` processes, one model thread each: a second one costs more than it gives on a row."""

    def launch(site: Site) -> Launch:
        address = ("--host", HOST, "--port", str(site.port), "--workers", str(workers))
        options = ("--loop", "uvloop", "--http", "httptools", "--log-level", "warning", "--no-access-log")
        command = (str(site.python), "-m", "uvicorn", f"{PACKAGE}.{app}:app", *address, *options)
        return Launch(command, site.folder, site.port, _environment(site, BENCH_ENGINE=engine), "/ready")

    return launch


def bentoml(site: Site) -> Launch:
    command = (str(site.python), "-m", "bentoml", "serve", f"{PACKAGE}.bentoml_app:Gateway")
    options = ("--host", HOST, "--port", str(site.port), "--working-dir", str(site.folder))
    environment = _environment(site, BENTOML_HOME=str(site.folder / "home"))
    return Launch(command + options, site.folder, site.port, environment, "/readyz")


def mosec(workers: int, engine: str = "xgboost") -> Callable[[Site], Launch]:
    def launch(site: Site) -> Launch:
        command = (str(site.python), "-m", f"{PACKAGE}.mosec_app", "--address", HOST, "--port", str(site.port))
        options = ("--log-level", "warning", "--timeout", "10000")
        environment = _environment(site, BENCH_WORKERS=str(workers), BENCH_ENGINE=engine)
        return Launch(command + options, site.folder, site.port, environment)

    return launch


def mlserver(name: str, implementation: str, file: str) -> Callable[[Site], Launch]:
    """MLServer with a model of that name, read by one of its runtimes from a file of the model's folder."""

    def launch(site: Site) -> Launch:
        http, grpc, metrics = site.ports[:3]
        settings = {
            "debug": False,
            "host": HOST,
            "http_port": http,
            "grpc_port": grpc,
            "metrics_port": metrics,
            "parallel_workers": 0,
        }
        model = {
            "name": name,
            "implementation": implementation,
            "parameters": {"uri": str(site.model.folder / file)},
            "max_batch_size": 64,
            "max_batch_time": 0.001,
        }
        (site.folder / "settings.json").write_text(json.dumps(settings))
        (site.folder / "model-settings.json").write_text(json.dumps(model))
        command = (str(site.python.parent / "mlserver"), "start", str(site.folder))
        ready = f"/v2/models/{name}/ready"
        return Launch(command, site.folder, http, _environment(site), ready, extra_ports=(grpc, metrics))

    return launch


def mlflow(workers: int) -> Callable[[Site], Launch]:
    """MLflow's own server over the model as it was logged, in this environment."""

    def launch(site: Site) -> Launch:
        command = (str(site.python.with_name("mlflow")), "models", "serve", "--env-manager", "local")
        model = ("--model-uri", str(site.model.folder / LOGGED), "--workers", str(workers))
        address = ("--host", HOST, "--port", str(site.port))
        return Launch((*command, *model, *address), site.folder, site.port, _environment(site), "/ping")

    return launch


def litserve(site: Site) -> Launch:
    command = (str(site.python), "-m", f"{PACKAGE}.litserve_app")
    return Launch(command, site.folder, site.port, _environment(site), "/health")


def ray(site: Site) -> Launch:
    command = (str(site.python), "-m", f"{PACKAGE}.ray_app")
    tuned = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return Launch(command, site.folder, site.port, _environment(site, **tuned), "/-/healthz")


def shokado(**settings: str) -> Callable[[Site], Launch]:
    """The project itself, as it is checked out, with `SHOKADO_*` settings by their lower-case names.

    It begins with an empty store.
    """

    def launch(site: Site) -> Launch:
        for left_over in site.folder.glob("routing.db*"):
            left_over.unlink()
        command = (str(site.python), "-m", "bentoml", "serve", "service:Shokado")
        address = ("--host", HOST, "--port", str(site.port))
        chosen = {f"SHOKADO_{name.upper()}": value for name, value in settings.items()}
        chosen["SHOKADO_STORE"] = f"sqlite:///{site.folder.absolute() / 'routing.db'}"
        return Launch(command + address, ROOT, site.port, {"BENTOML_DO_NOT_TRACK": "True", **chosen}, "/readyz")

    return launch


def recording(**settings: str) -> Callable[[Site], Launch]:
    """The project itself with its request log on, which begins empty: every row of every request is recorded."""

    def launch(site: Site) -> Launch:
        folder = site.folder.absolute() / "request-log"
        shutil.rmtree(folder, ignore_errors=True)
        return shokado(log__share="1", log__folder=str(folder), **settings)(site)

    return launch


def shokado_of_folder(**settings: str) -> Callable[[Site], Launch]:
    """The project itself, with the configuration and the model store of the model's folder."""

    def launch(site: Site) -> Launch:
        begun = shokado(config=str(site.model.folder / CONFIGURATION), **settings)(site)
        return replace(begun, environment={**begun.environment, "BENTOML_HOME": str(site.model.folder / STORE)})

    return launch


def remote(site: Site) -> Launch:
    """A gateway with 2 workers, and both versions in another Shokado with 1 worker."""
    runner = replace(site, folder=site.folder / "runner", ports=site.ports[1:])
    runner.folder.mkdir(exist_ok=True)
    behind = shokado(workers="1")(runner)
    address = json.dumps({"placement": "remote", "remote": {"url": f"http://{HOST}:{runner.port}"}})
    return replace(shokado(workers="2", versions__v1=address, versions__v2=address)(site), behind=(behind,))


def behind_nginx(site: Site) -> Launch:
    """The gateway that `k8s/gateway` describes, without its bound of requests, before one Shokado with 2 workers."""
    server = replace(site, ports=site.ports[1:])
    values = {
        "PRODUCTION_SERVERS": f"server {HOST}:{server.port};",
        "STAGING_SERVERS": f"server {HOST}:{server.port};",
        "PUBLIC_LISTEN": f"{HOST}:{site.port}",
        "OPERATORS_LISTEN": f"{HOST}:{site.ports[2]}",
        "RATE_PER_ADDRESS": "1000000r/s",
        "RATE_BURST": "1000000",
        "ACCESS_LOG": "access.log",
    }
    (site.folder / "nginx.conf").write_text(gateway.filled(values))
    command = (*_nginx(site), "-g", gateway.globals_for_this_user())
    return Launch(command, site.folder, site.port, {}, "/readyz", behind=(shokado(workers="2")(server),))


def container(site: Site) -> Launch:
    """The image that `make image` built, hardened as it is deployed, with 2 workers on the host's network."""
    engine = shutil.which("podman")
    if engine is None:
        raise ServerError("podman is not installed: apt-get install podman")
    if subprocess.run([engine, "image", "exists", IMAGE], check=False).returncode != 0:
        raise ServerError(f"there is no image {IMAGE}: make image")
    pid_file = site.folder / "pid"
    pid_file.unlink(missing_ok=True)
    hardened = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
    settings = ("--env=SHOKADO_WORKERS=2", f"--env=BENTOML_PORT={site.port}")
    command = (engine, "run", "--rm", "--replace", "--name=shokado-bench", f"--pidfile={pid_file}")
    return Launch((*command, *hardened, *settings, IMAGE), site.folder, site.port, {}, "/readyz", pid_file=pid_file)


def nginx(site: Site) -> Launch:
    text = Template((CONTENDERS / "nginx.conf").read_text()).substitute(port=site.port, answer=CONSTANT)
    (site.folder / "nginx.conf").write_text(text)
    return Launch(_nginx(site), site.folder, site.port)


def _nginx(site: Site) -> tuple[str, ...]:
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if binary is None:
        raise ServerError("nginx is not installed: apt-get install nginx")
    return (binary, "-p", str(site.folder), "-c", str(site.folder / "nginx.conf"), "-e", "stderr")
