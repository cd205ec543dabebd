"""`python -m load_tests.bench.table_scoring`: `shokado batch run` beside others, and its memory by size.

Each run is a process of its own, held to one or two processors, from its start to its end. Rates count all of that: a
process that takes seconds to start takes them here. Memory is the largest PSS of the process tree, Ray included.
Exit code 0: scores are the same, and memory grew by at most a tenth from the smallest to the largest table; else 1.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from load_tests.bench import process_tree
from load_tests.bench.hardware import this_machine
from load_tests.bench.launch import ROOT, project_python
from load_tests.bench.reference_model import ModelMissing, ReferenceModel, draw_rows, find_model

NAMES = (
    "age", "income", "credit_score", "num_purchases", "account_age_days", "avg_transaction", "num_returns",
    "is_premium", "region", "category_preference",
)  # fmt: skip
GROWTH_LIMIT = 0.1
"""Growth of the memory that is none yet: allocators, and how many processes overlap, move by so much."""
GROUP_ROWS = 100_000
LOOK_EVERY_S = 0.2
ENVIRONMENTS = ("var/batch", "var/test/clients/batch")
"""Where Ray may be installed."""

Command = Callable[[Path, Path, int], list[str]]
"""What scores a table into a folder with so many processors."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class RunFailed(Exception):
    """A program ended otherwise than it should; the message is what it said last."""


@dataclass(frozen=True)
class EndedRun:
    """A run that is over."""

    seconds: float
    megabytes: float
    """The largest memory of all its processes together, 2**20 bytes."""
    cpu_seconds: float
    """Processor time of all its processes, which what else the machine does hardly changes."""


def write_table(rows: int, target: Path) -> None:
    """Customers, as a CSV or Parquet file, a group of rows at a time."""
    import pandas as pd
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([(name, pyarrow.float64()) for name in NAMES])
    with ParquetWriter(target.with_suffix(".parquet"), schema) as writer:
        for number, first in enumerate(range(0, rows, GROUP_ROWS)):
            frame = pd.DataFrame(draw_rows(min(GROUP_ROWS, rows - first), seed=number), columns=list(NAMES))
            if target.suffix == ".csv":
                frame.to_csv(target, index=False, header=not number, mode="a")
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))


def prepare(folder: Path) -> ReferenceModel:
    """Train the customers' versions into a registry and a store of the folder's own. Raises `RunFailed`.

    What the machine has already may be of another clone, whose registry this one does not know.
    """
    os.environ |= {"BENTOML_HOME": str(folder / "bentoml"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    watched([str(project_python()), "-m", "shokado", "models", "prepare", "--dataset", "customers"], 2, folder / "log")
    return find_model(folder / "bentoml" / "models" / "customers" / "v1")


def watched(command: Sequence[str], cpus: int, log: Path) -> EndedRun:
    """Run a program on so many processors. Raises `RunFailed`."""
    allowed = sorted(os.sched_getaffinity(0))[:cpus]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(cpus), "OMP_THREAD_LIMIT": str(cpus)}
    began, largest = time.monotonic(), 0
    used: dict[int, float] = {}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        # What it starts has the same.
        os.sched_setaffinity(process.pid, allowed)
        while process.poll() is None:
            family = process_tree.family(process.pid)
            largest = max(largest, process_tree.pss_bytes(family))
            used |= {pid: max(process_tree.cpu_seconds([pid]), used.get(pid, 0.0)) for pid in family}
            time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise RunFailed(f"{' '.join(command[:6])} ..: {log.read_text()[-600:]}")
    return EndedRun(time.monotonic() - began, largest / 2**20, sum(used.values()))


def ray_python() -> Path:
    """The interpreter that has Ray. Raises `RunFailed`."""
    found = next((ROOT / folder / "bin" / "python" for folder in ENVIRONMENTS if (ROOT / folder).is_dir()), None)
    if found is None:
        raise RunFailed("Ray is not installed: make batch")
    return found


def commands(model: Path) -> dict[str, Command]:
    """What scores a table into a folder, by name."""

    def shokado(source: Path, target: Path, cpus: int) -> list[str]:
        options = ["--model", "customers", "--version", "v1", "--engine", "xgboost", "--cpus", str(cpus)]
        return [str(ray_python()), "-m", "shokado", "batch", "run", str(source), str(target), *options]

    def loop(kind: str, of: str, source: Path, target: Path, _cpus: int) -> list[str]:
        module = "load_tests.bench.batch_loops"
        return [str(project_python()), "-m", module, kind, of, str(source), str(target)]

    return {
        "shokado batch run": shokado,
        "pandas and XGBoost": partial(loop, "pandas", str(model / "model.ubj")),
        "MLflow's pyfunc": partial(loop, "mlflow", "models:/customers/1"),
    }


def scores_in(folder: Path) -> Any:
    """The scores of all parts, in the order of the rows."""
    import pandas as pd

    return pd.read_parquet(folder).sort_values("row")["score"].to_numpy(np.float64)


def agrees(scores: Any, probabilities: Any) -> bool:
    """Whether these are the same probabilities, or the labels by them, which MLflow's pyfunc gives of a classifier."""
    if set(np.unique(scores)) <= {0.0, 1.0}:
        return bool((scores == (probabilities >= 0.5)).all())
    return bool(np.allclose(scores, probabilities, rtol=0, atol=1e-6))


@app.command()
def main(
    rows: Annotated[int, typer.Option(min=1000, help="Of the table that all of them score.")] = 1_000_000,
    memory_rows: Annotated[
        str, typer.Option(help="Sizes of the tables by which memory is watched.")
    ] = "1000000,3000000,10000000",
    runs: Annotated[int, typer.Option(min=1, help="Of each; the fastest counts.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Small tables, one run: whether all of it works.")] = False,
) -> None:
    """Score a table with one and two processors by each, and ever larger ones with two."""
    if quick:
        rows, memory_rows, runs = 50_000, "100000,300000", 1
    console = Console(highlight=False, width=120)
    console.print(str(this_machine()))
    try:
        with TemporaryDirectory(prefix="shokado-batches-") as folder:
            model = prepare(Path(folder))
            is_same = _rates(console, rows, runs, Path(folder), commands(model.folder))
            is_flat = _memory(console, [int(size) for size in memory_rows.split(",")], Path(folder))
    except (RunFailed, ModelMissing) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if not (is_same and (is_flat or quick)):
        raise typer.Exit(1)


def _rates(console: Console, rows: int, runs: int, folder: Path, found: dict[str, Command]) -> bool:
    """Print rows a second; whether all have the same scores."""
    write_table(rows, folder / "rows.csv")
    table = Table(f"{rows:,} rows", "CPUs", "CSV, rows/s", "Parquet", "of a CPU s", "Parquet", "memory", box=None)
    first: Any = None
    is_same = True
    for name, command in found.items():
        for cpus in (1, 2):
            rates, of_cpu, megabytes = [], [], 0.0
            for kind in ("csv", "parquet"):
                ended = []
                for run in range(runs):
                    target = folder / f"{len(list(folder.iterdir()))}-{run}"
                    ended.append(watched(command(folder / f"rows.{kind}", target, cpus), cpus, folder / "log"))
                    scores = scores_in(target)
                    first = scores if first is None else first
                    is_same &= agrees(scores, first)
                rates.append(rows / min(one.seconds for one in ended))
                of_cpu.append(rows / min(one.cpu_seconds for one in ended))
                megabytes = max(megabytes, *(one.megabytes for one in ended), 0)
            table.add_row(name, str(cpus), *(f"{rate:,.0f}" for rate in rates + of_cpu), f"{megabytes:,.0f} MB")
    console.print(table)
    if not is_same:
        console.print("scores differ")
    return is_same


def _memory(console: Console, sizes: Sequence[int], folder: Path) -> bool:
    """Print the memory by rows; whether it stayed as it was."""
    command = commands(Path())["shokado batch run"]
    table = Table("shokado batch run, 2 CPUs", "rows/s", "of a CPU s", "largest memory", box=None)
    used = []
    for size in sizes:
        source, target = folder / f"{size}.parquet", folder / f"scored-{size}"
        write_table(size, source)
        ended = watched(command(source, target, 2), 2, folder / "log")
        used.append(ended.megabytes)
        table.add_row(
            f"{size:,} rows",
            *(f"{size / of:,.0f}" for of in (ended.seconds, ended.cpu_seconds)),
            f"{ended.megabytes:,.0f} MB",
        )
        source.unlink()
    console.print(table)
    grown = used[-1] / used[0] - 1
    console.print(f"growth of the memory: {grown:+.1%} (limit {GROWTH_LIMIT:.0%})")
    return grown <= GROWTH_LIMIT


if __name__ == "__main__":
    app()
