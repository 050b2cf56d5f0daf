"""ExemplarCNN with clustered surrogate classes: the library behind the pipeline."""
