"""Keep results as runs in the MLflow store; only this package and the model registry talk to it."""
