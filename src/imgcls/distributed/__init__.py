"""One run on several processes: starting and ending them, and what they tell each other."""
