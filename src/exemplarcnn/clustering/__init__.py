"""Exact complete-linkage clustering: a part that can be used by itself (docs/clusters.md)."""
