"""The HTTP dialects: each a decode and an encode over the same dispatch, behind two transports (express lane, ASGI)."""
