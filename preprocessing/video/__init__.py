"""Films and folders of images, decoded to upright frames."""
