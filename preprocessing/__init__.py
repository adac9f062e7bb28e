"""From recordings to clips: loaders, video, face, signals. Without torch, Ray and the other packages."""
