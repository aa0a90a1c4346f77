"""pawprint: the library under the stages, by subject, and the commands that people run.

`pawprint --help` lists the commands. The library imports no stage and no command.
"""
