"""ImageNet checkpoints of the encoders, from files that the user has."""
