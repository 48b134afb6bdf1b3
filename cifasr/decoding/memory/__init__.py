"""Words taught to a recogniser: what is remembered of them, and how that favours them."""
