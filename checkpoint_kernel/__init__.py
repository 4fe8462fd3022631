"""The kernel's half: checkpoints the user namespace and restores it after a death.

Importing this package imports nothing but the standard library, because the provisioner
(which may live in another environment) reads `contract`, `durable`, `flight_recorder`,
`manifest` and `session` from here.
"""

__version__ = "0.1.0"
