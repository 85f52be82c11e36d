"""Reference readers of model files, each a script of its own.

They import libraries that Kun does without, and so run in a process of their own, in this or another interpreter:
`python reader.py FOLDER` reads `job.json` there and writes `answer.json` and `states.npy`. See `reading`, beside.
"""
