"""What can be set, read in one place: `settings` turns `serving.yaml` and the environment into frozen values."""
