"""The express lane: prediction routes, answered by a uvicorn protocol before any ASGI machinery."""
