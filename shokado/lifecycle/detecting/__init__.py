"""Rows of the request log are compared with others, in a job beside the servers."""
