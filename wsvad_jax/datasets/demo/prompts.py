"""Class prompts of the demo worlds."""

from wsvad_jax.datasets.demo.world import NORMAL

# They say what can be seen, since the demo's CLIP knows things and no events. They were
# chosen on a demo world of another seed. The order is that of the class indices.
PROMPTS = {
    NORMAL: [
        "a person walking",
        "a car driving by",
        "nobody and no cars",
        "clear air and no flames",
    ],
    "Arson": ["a fire and black smoke", "small flames and smoke"],
    "Explosion": [
        "a bright flash",
        "a ball of fire and pieces in the air",
        "large flames and thick smoke",
    ],
    "Fighting": [
        "people with raised arms",
        "a person lying on the ground",
        "a crowd of people close together with raised arms",
        "a cloud of dust and people with their arms up",
    ],
    "RoadAccidents": [
        "two cars touching",
        "a tilted car",
        "a car on its roof",
        "grey smoke over the road and two cars",
    ],
}
