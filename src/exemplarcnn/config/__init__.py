"""The configuration: every parameter of ``params.yaml``, with its type and range."""
