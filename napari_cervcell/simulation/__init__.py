"""How fast a detector learns from a reviewer: sittings in which someone who knows the truth plays the reviewer.

Nothing is abbreviated: the fields lie on a real slide file, every verdict goes through the session into a real case
file, and the rounds are those of the window. Only the command line uses it.
"""
