"""Files: atomic writes, content keys, checksums, locks, and clean-up after dead processes."""
