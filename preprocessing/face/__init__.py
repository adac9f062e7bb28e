"""From the frames of a film to a face: detector, mesh, tracking, regions, keyframes (paper, Fig. 1)."""
