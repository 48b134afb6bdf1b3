"""Models to text: greedy search, the streaming recogniser, alignments."""
