"""Search in snippet features: by words or by an example picture, with a CLIP model."""
