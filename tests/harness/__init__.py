"""What a person does with Jupyter, as a library: start a server, open a notebook, run, kill.

Drives real processes over their public interfaces (REST, WebSocket, the command line). It
knows nothing of checkpoint_kernel's insides, and the demo and the benchmarks use it too.
"""
