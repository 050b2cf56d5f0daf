"""Run stages: checks before they start, errors that say what to do, and the code that they depend on."""
