"""A small CLIP of things: frames of random streets, captions, contrastive training."""
