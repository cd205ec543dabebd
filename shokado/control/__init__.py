"""Routes that are no predictions: the FastAPI app over the parts of a worker."""
