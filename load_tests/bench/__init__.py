"""The side-by-side benchmark: Shokado and its alternatives, same machine, same model file, same request, in turns.

In: an artefact (`model.ubj`, `model.onnx`) and, per contender, a pinned environment. Out: a table on the terminal
and `RESULTS.md`. Needs Linux and wrk; a contender that cannot run is named with its reason, never left out.
"""
