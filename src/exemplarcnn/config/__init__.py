"""What the pipeline may be told: every parameter of ``params.yaml``, its type and its range."""
