"""The embedded sample, drawn from a seed."""
