"""An environment per contender, built by uv from pinned, hashed requirements, and reused while they do not change.

`python -m load_tests.bench.environment` compiles `requirements/*.in` to `requirements/*.txt` again.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
OVERRIDES = REQUIREMENTS / "overrides.txt"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
STAMP = "requirements.sha256"


class BuildError(Exception):
    """An environment cannot be built; the message is the last thing uv said."""


def build(name: str, folder: Path) -> Path:
    """Python of the environment in `folder`, built from `requirements/<name>.txt` unless that was done before."""
    requirements = REQUIREMENTS / f"{name}.txt"
    python = folder / "bin" / "python"
    stamp = folder / STAMP
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest and python.exists():
        return python
    _uv("venv", "--clear", "--python", sys.executable, str(folder))
    _uv("pip", "sync", "--require-hashes", "--python", str(python), str(requirements))
    stamp.write_text(digest)
    return python


def pins(name: str) -> dict[str, str]:
    """Package name to version, as pinned for `name`; the first pin where markers choose between several."""
    found: dict[str, str] = {}
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    for package, version in re.findall(r"^([a-z0-9-]+)(?:\[.*?])?==(\S+)", text, re.MULTILINE):
        found.setdefault(package, version)
    return found


def compile_all() -> None:
    """Resolve every `.in` file again. Indexes and find-links of this machine stay out of the result."""
    options = ("--universal", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header")
    chosen = ("--python-version", PYTHON, "--override", OVERRIDES.name)
    for source in sorted(REQUIREMENTS.glob("*.in")):
        _uv("pip", "compile", *options, *chosen, source.name, "-o", source.with_suffix(".txt").name)


def _uv(*arguments: str) -> None:
    beside = Path(sys.prefix, "bin", "uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise BuildError("uv is not installed: pip install uv")
    cleared = {name: value for name, value in os.environ.items() if name not in ("UV_FIND_LINKS", "PIP_FIND_LINKS")}
    command = [uv, "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=cleared, cwd=REQUIREMENTS)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"uv ended with {done.returncode}"]
        raise BuildError(lines[-1].strip())


if __name__ == "__main__":
    compile_all()
