"""Several runs of one network as one program: each a run like any other but for its network's passes."""
