"""A function of AWS Lambda: events go in, answers come out, through the ASGI transport and without a server."""
