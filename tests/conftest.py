"""What all tests share: a BentoML home of their own with real models in it, and real servers over it.

The home lies under `var/test/` and is kept between runs, because training takes a while and always gives the same.
"""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import simple_di
from hypothesis import settings

from tests import tools
from tests.support import disk, http
from tests.support.server import Server, serving

ROOT = Path(__file__).parent.parent
HOME = ROOT / "var" / "test" / "bentoml"

LONGER = {
    "image": "TEST_IMAGE",
    "frameworks": "TEST_FRAMEWORKS",
    "faults": "TEST_FAULTS",
    "end_to_end/test_schema.py": "SCHEMA_EXAMPLES",
}
"""What takes minutes more, and the variable by which the command of its own asks for it: `make test-image`,
`test-frameworks`, `test-faults`, `schema`."""
collect_ignore = [path for path, asked_by in LONGER.items() if asked_by not in os.environ]

LONG = (
    "lifecycle", "faults", "end_to_end", "browser", "docs", "cli", "load_tests", "k8s", "gateway", "client", "compose",
    "worker", "function", "test_bento.py",
)  # fmt: skip
"""Folders and files whose tests take longest, in the order in which they begin: they start servers, or train.

Most of the first folder needs no models: in a fresh checkout, one test process trains them while others wait for it.
"""

# Before anything imports bentoml, which reads them once.
PLACES = {"BENTOML_HOME": str(HOME), "MLFLOW_TRACKING_URI": f"sqlite:///{ROOT / 'var' / 'test' / 'mlflow.db'}"}
"""Where the models of all tests are. Some tests have a store and a registry of their own in its place."""
os.environ |= PLACES
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
# The programs of this environment, such as kubectl, before those of the machine.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
# Servers keep this project's bytecode, also where the shell would have none written: it takes a tenth of their start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# kubectl and Prometheus, which Go's runtime reads this for, have little to keep here, and walk it often.
os.environ["GOGC"] = "400"
for variable in [name for name in os.environ if name.startswith("SHOKADO_")]:
    del os.environ[variable]
# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start and end that way.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What servers keep in the folder for temporary files outlives them, and so is removed with it. What a test keeps there
# itself stays, as pytest has it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    TEMPORARY = tempfile.TemporaryDirectory(prefix="shokado-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = TEMPORARY.name
    # Some tests are those of another user.
    Path(TEMPORARY.name).chmod(0o711)

# How long an example takes says most of what else the machine does.
settings.register_profile("shokado", settings(), deadline=None)
settings.load_profile("shokado")


def prepare(dataset: str) -> None:
    """Train and import a data set's versions, unless an earlier run, or a test process beside this one, did.

    Once a run, as it takes seconds also where all is there.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    done = Path(tempfile.gettempdir()) / f"prepared-{dataset}"
    command = [sys.executable, "-m", "shokado", "models", "prepare", "--dataset", dataset]
    with HOME.with_name("prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            subprocess.run(command, cwd=ROOT, env=os.environ | PLACES, check=True, timeout=300)
            done.touch()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the collector off what imports and thousands of tests leave: walking it takes half of the collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long files first: were they last, one test process would wait for the other to end one.

    Slow tests are left to `make test-slow`. Of models of frameworks, `TEST_FRAMEWORKS=3` leaves every third of each
    test's.
    """
    leave_out(config, items, [*slow(items), *models_beyond(items, int(os.environ.get("TEST_FRAMEWORKS", "1")))])

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT / "tests").parts[0]
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


def leave_out(config: pytest.Config, items: list[pytest.Item], left_out: list[pytest.Item]) -> None:
    """Take these out of `items`, and tell how many."""
    config.hook.pytest_deselected(items=left_out)
    unwanted = set(left_out)
    items[:] = [item for item in items if item not in unwanted]


def slow(items: list[pytest.Item]) -> list[pytest.Item]:
    """Those that are marked so, unless `TEST_SLOW` asks for them."""
    if "TEST_SLOW" in os.environ:
        return []
    return [item for item in items if item.get_closest_marker("slow")]


def models_beyond(items: list[pytest.Item], every: int) -> list[pytest.Item]:
    """All models of frameworks but every so manieth of each test's, from its first on."""
    met = Counter[str]()
    beyond = []
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "frameworks"):
            name = item.nodeid.partition("[")[0]
            if met[name] % every:
                beyond.append(item)
            met[name] += 1
    return beyond


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, where everything is installed, a test that is skipped is one that failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line: how many tests wanted a program, and the command that installs all."""
    # What was frozen would outlive the libraries that free it.
    gc.unfreeze()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        skipped = reporter.stats.get("skipped", [])
        line = tools.last_line([report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)])
        if line is not None:
            reporter.write_line(line)


@pytest.fixture(autouse=True)
def bentoml_looks_for_its_home_again() -> Iterator[None]:
    """BentoML keeps the home that it found first, which may have been that of one test."""
    yield
    containers = sys.modules.get("bentoml._internal.configuration.containers")
    if containers is not None:
        for place in ("bentoml_home", "model_store_dir", "model_store", "bento_store_dir", "bento_store"):
            getattr(containers.BentoMLContainer, place)._cache = simple_di.sentinel


@pytest.fixture(scope="session")
def models() -> Path:
    """The BentoML home, with `customers:v1` and `customers:v2` in its store."""
    prepare("customers")
    return HOME


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[Server]:
    """A server as `make serve` starts it, with two workers; for tests that leave it as it was."""
    yield from unchanged(environment={"SHOKADO_WORKERS": "2"})


@pytest.fixture(scope="session")
def plain_server(models: Path) -> Iterator[Server]:
    """The same without the express lane."""
    yield from unchanged(environment={"SHOKADO_WORKERS": "1", "SHOKADO_EXPRESS_LANE": "false"})


@pytest.fixture(scope="session")
def service_server(models: Path) -> Iterator[Server]:
    """One gateway worker, and each version in a service of its own."""
    placed = {"SHOKADO_VERSIONS__V1__PLACEMENT": "service", "SHOKADO_VERSIONS__V2__PLACEMENT": "service"}
    yield from unchanged(environment={"SHOKADO_WORKERS": "1"} | placed)


@pytest.fixture(scope="module")
def own_server(models: Path) -> Iterator[Server]:
    """As `server`, but of one file: its tests may change it."""
    with serving(environment={"SHOKADO_WORKERS": "2"}) as running:
        yield running


def unchanged(environment: dict[str, str]) -> Iterator[Server]:
    """A server whose routing is in the end what it began with: other tests count on it."""
    with serving(environment=environment) as running:
        yield running
        made = http.get(f"{running.url}/v1/traffic-split/history", timeout=20).json()["entries"]
        assert len(made) == 1, f"a test changed what others count on, and needs a server of its own: {made[0]}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; skipped where nobody may mount one."""
    with disk.mounted(tmp_path / "disk") as folder:
        yield folder
