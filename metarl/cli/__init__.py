"""The verbs of the command line, a file each; `run(argv)` returns the exit code."""
