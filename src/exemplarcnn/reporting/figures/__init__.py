"""Pictures, a module a subject: for looking, where a number would have to be read. The same inputs give the same bytes.

A function that draws gets what it shows and where to; :mod:`exemplarcnn.reporting.pictures` says which there are.
"""
