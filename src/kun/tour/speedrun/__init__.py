"""A speedrun: a GPT's life on this machine, from the installed documentation to a model that answers questions on it.

Each stage is a recipe or a task that anybody can run again by itself; this puts them together within some minutes.
"""
