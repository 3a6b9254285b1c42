"""The command line: options shared by the scripts, and how they are parsed and run."""
