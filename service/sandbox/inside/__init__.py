"""What runs in the child: the boundary around it, then IPython. Imports nothing of the server.

The interpreter's environment has other packages than the server's, so only the standard library
and IPython are imported here.
"""
