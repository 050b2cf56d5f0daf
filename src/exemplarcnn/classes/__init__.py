"""Class tables: which images make up which surrogate class."""
