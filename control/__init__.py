"""The FastAPI app for everything that is not a prediction: health, versions, metrics, documentation."""
