"""Files: atomic writes, content keys, checksums, locks, and what dead processes left."""
