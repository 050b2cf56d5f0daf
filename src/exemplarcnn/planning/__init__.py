"""Say what a run will cost before it starts: steps, bytes on disk, memory, time."""
