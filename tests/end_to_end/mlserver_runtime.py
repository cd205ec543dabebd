"""A model for MLServer, run by its own environment: a row's score is its first value as part of 100.

A negative first value is an error, as of a model that breaks on a row.
"""

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]


class Hundredth(MLModel):  # type: ignore[misc]
    """Answers with a column of FP64."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        if (rows[:, 0] < 0).any():
            raise ValueError("no row has a negative age")
        scores = NumpyCodec.encode_output("predict", rows[:, :1].astype(float) / 100)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[scores])
