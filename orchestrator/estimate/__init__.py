"""What a run needs before it starts: machine, data, time and disk."""
