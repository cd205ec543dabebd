"""Stores: the same contract over SQLite and a real Redis, what breaks each of them, and the follower over both."""
