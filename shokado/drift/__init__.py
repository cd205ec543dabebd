"""Drift: how far what is served lies from what a version was made of.

    rows and scores -> cells of the reference's bins -> counts of all workers -> distances with intervals -> verdicts

Pure but for `column_counts`, which reads a reference; who counts is `shokado.monitoring`, who adds up `shokado.stores`.
"""
