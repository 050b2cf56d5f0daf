"""Trained networks for use elsewhere."""
