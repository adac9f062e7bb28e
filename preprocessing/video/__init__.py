"""Videos and folders of images, decoded to upright frames."""
