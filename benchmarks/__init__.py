"""Every figure that Kun claims, measured on this machine, beside the peer where there is one.

`python -m benchmarks --data FOLDER` runs all of them and prints one table; `python -m benchmarks.speed` runs one.
"""
