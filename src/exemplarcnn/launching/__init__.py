"""What runs stages: checks before they start, errors a person can act on, and the code they depend on."""
