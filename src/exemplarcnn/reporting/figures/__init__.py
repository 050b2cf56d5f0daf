"""Draw pictures, one module per subject. The same inputs give the same bytes.

A drawing function gets the file to write and what to show; :mod:`exemplarcnn.reporting.pictures` lists all pictures.
"""
