"""The `shokado` command: from a trained model in MLflow to a verified artefact in the BentoML model store."""
