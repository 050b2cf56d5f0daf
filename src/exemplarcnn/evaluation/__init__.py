"""Tests of features, and what features tell about images."""
