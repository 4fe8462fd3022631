"""Memory caps: `policy` chooses, the other modules hold the verbs of the operating system.

Standard library only, and no psutil: the supervisor imports this before every kernel.
"""
