"""Report results: text, tables, charts and pictures."""
