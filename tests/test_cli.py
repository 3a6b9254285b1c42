"""A command line that cannot be meant is one line and exit code 2; nothing is read or written."""
