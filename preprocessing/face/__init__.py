"""From video frames to a face: detector, mesh, tracking, regions, keyframes (paper, Fig. 1)."""
