"""What each contender serves: one small application per file, written the way its own manual recommends.

These files run in the contender's environment, not in the project's; they import nothing of Shokado.
Each reads the model's folder from `BENCH_MODEL_DIR`.
"""
