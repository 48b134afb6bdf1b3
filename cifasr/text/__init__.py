"""Text: sub-words, and what is done to text before it is scored or learned."""
