"""What the `shokado` command does: training and verified imports, bentos and images, deploys and canaries."""
