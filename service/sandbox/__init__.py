"""The code interpreter's sandbox: where the model's Python runs, enclosed, one session per thread.

`port` says what an engine offers, `engines` holds the engines and chooses one, `sessions` keeps
the sessions of all threads. What runs in the child is in `inside`.
"""
