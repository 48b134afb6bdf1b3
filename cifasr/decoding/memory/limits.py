"""What bounds a word memory, whoever keeps it."""

MAX_PHRASES = 5000
"""Phrases of one memory."""

MAX_TOKENS = 24
"""Tokens of one phrase."""

MAX_LESSONS = 8
"""Recordings of one phrase; a further one takes the place of the oldest."""

MAX_LESSON_S = 30
"""Seconds of one recording."""
