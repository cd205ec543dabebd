"""All that the server logs goes to one logger, which `bentoml serve` shows from INFO on."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVER = ("service.py", "configuration/**/*.py", "runners/**/*.py", "shokado/**/*.py")
COMMANDS = ROOT / "shokado" / "lifecycle"
"""They print; the loggers that they get are other packages', to silence them."""


def test_there_is_one_logger() -> None:
    files = [file for pattern in SERVER for file in ROOT.glob(pattern) if COMMANDS not in file.parents]
    found = {
        name: file.relative_to(ROOT) for file in files for name in re.findall(r"getLogger\((.*)\)", file.read_text())
    }
    assert list(found) == ['"bentoml.shokado"'], found
