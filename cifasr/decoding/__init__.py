"""Models to text: beam search, the streaming recogniser, alignments."""
