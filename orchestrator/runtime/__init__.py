"""Ray, the terminal, and what a command needs of the machine."""
