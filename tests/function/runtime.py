"""Lambda's runtime, from outside: what of it is installed for the tests, and where."""

import pytest

from tests.support.server import ROOT

PACKAGES_PYTHON = ROOT / "var" / "test" / "clients" / "lambda" / "bin" / "python"
"""Has AWS's runtime client, and Mangum; `make clients` makes it."""
needs_lambda_packages = pytest.mark.skipif(
    not PACKAGES_PYTHON.exists(), reason="needs the client of Lambda's runtime; make clients"
)
