"""One loader per data set, and their registry."""
