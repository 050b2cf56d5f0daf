"""Results as runs in the MLflow store; with the registry, the one place that talks to it."""
