"""FastAPI + XGBoost the way a careful team writes it: pydantic body, model loaded once, no thread hop for 0.3 ms."""

from typing import Annotated

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

from load_tests.bench.contenders.scoring import load_scorer

Row = Annotated[list[float], Field(min_length=10, max_length=10)]


class Question(BaseModel):
    instances: list[Row] = Field(min_length=1, max_length=10_000)


class Answer(BaseModel):
    predictions: list[float]


app = FastAPI()
score = load_scorer()


@app.get("/ready")
async def ready() -> None:
    """200 as soon as this worker has its model."""


@app.post("/predict")
async def predict(question: Question) -> Answer:
    rows = np.asarray(question.instances, dtype=np.float32)
    return Answer(predictions=score(rows).tolist())
