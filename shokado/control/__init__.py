"""A worker's parts joined, and the FastAPI app over them for all that is no prediction: split, versions, health, .."""
