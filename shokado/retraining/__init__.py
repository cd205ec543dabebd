"""Retraining: somebody is told, once, that a version should be trained anew, or a command that does it is started.

    causes (drift, guardrails) --> events in the store --(one worker, by a lease)--> webhook or command

Nothing here is asked for by a request: what is called stands in the settings.
"""
