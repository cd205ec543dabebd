"""One model version each: its artefact, its engine, its batcher, and the executor that computes its batches."""
