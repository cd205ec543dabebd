"""The image of the job that reports drift: this project's commands and `requirements/drift.txt`, without a model."""

from shokado.lifecycle.packaging.job_image import JobImage

DRIFT_IMAGE = JobImage(
    "drift",
    "the drift job",
    'ENV BENTOML_HOME=/tmp/bentoml\nENTRYPOINT ["python", "-m", "shokado", "drift", "report"]',
)
