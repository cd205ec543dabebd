"""Features by entity: what a request names is looked up in a transformer, a process of its own that has Feast.

    entities of a request --> cache --(not there)--> queue --batch--> transformer --> features of each entity
                                                       `--(late, away)--> nothing of them

What a row becomes of them, and what of those that are missing, is decided by `shokado.dialects.entity_bodies`.
"""
