"""The server's half: starts kernels under a supervisor and a cap, and explains their deaths.

Importing this package imports nothing: the supervisor runs as `python -m
checkpoint_provisioner.supervisor` and must stay small (standard library and psutil only).
"""
