"""The networks, their files, and the features they compute."""
