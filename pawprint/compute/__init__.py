"""One map over pictures: on the cores of this machine, or on a Ray cluster.

`choice.open_engine` gives what `compute.engine` names. Ray is imported only if it is chosen.
"""
