"""TFDS builder of RoadScene."""
