"""Where the work of a stage is done: by Ray's workers, or in the command's own process."""
