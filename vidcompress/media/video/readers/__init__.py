"""Video readers, one file each; `vidcompress.media.video.backends` lists them by name."""
