"""FastAPI + scikit-learn the way a careful team writes it: pydantic body, one DataFrame of it, `predict_proba`."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, Field

KINDS = {"age": "float64", "fare": "float64", "sex": "str", "port": "str", "deck": "str"}


class Passenger(BaseModel):
    age: float | None
    fare: float | None
    sex: str | None
    port: str | None
    deck: str | None


class Question(BaseModel):
    instances: list[Passenger] = Field(min_length=1, max_length=10_000)


class Answer(BaseModel):
    predictions: list[float]


app = FastAPI()
model = joblib.load(os.path.join(os.environ["BENCH_MODEL_DIR"], "model.joblib"))


@app.get("/ready")
async def ready() -> None:
    """200 as soon as this worker has its model."""


@app.post("/predict")
async def predict(question: Question) -> Answer:
    rows = pd.DataFrame([row.model_dump() for row in question.instances]).astype(KINDS)
    return Answer(predictions=model.predict_proba(rows)[:, 1].tolist())
