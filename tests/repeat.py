"""All tests, several times, beside a processor that is busy with something else: `make test-repeat N=5`.

A test that passes most of the time says nothing when it fails. Arguments after `--` are pytest's.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def busy_processor() -> Iterator[None]:
    """One that does nothing else, for as long as the context lasts."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def main() -> int:
    """The exit code: how many runs failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.repeat", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    options = parser.parse_args()
    failed = 0
    with busy_processor():
        for run in range(1, options.runs + 1):
            began = time.monotonic()
            print(f"repeat: run {run} of {options.runs}", flush=True)
            code = subprocess.run([sys.executable, "-m", "pytest", *options.pytest], check=False).returncode
            failed += code != 0
            print(f"repeat: run {run}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)
    print(f"repeat: {options.runs - failed} of {options.runs} runs passed beside a busy processor")
    return failed


if __name__ == "__main__":
    sys.exit(main())
