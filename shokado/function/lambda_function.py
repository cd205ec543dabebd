"""What AWS Lambda imports by default, `lambda_function.lambda_handler`; it lies in the top folder of a function.

Nothing is imported before the variables are set, which libraries read once.
"""

import os
from pathlib import Path

os.environ.setdefault("BENTOML_HOME", str(Path(__file__).resolve().parent / "model_store"))
# BLAS would make a thread for each core of the host.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from shokado.function.lambda_handler import lambda_handler

__all__ = ["lambda_handler"]
