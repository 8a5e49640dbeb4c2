"""The command line: its arguments, and its output in the terminal and in reports."""
