"""The demo worlds: the demo itself, and others that differ from it in one thing each.

  demo_twin         nothing but the seed, so other videos of the same street
  demo_plaza        another street: a plaza with a town hall
  demo_dusk         other light: dusk, and some nights
  demo_camera       another camera: soft, pale, tinted and noisy pictures
  demo_stamp        the videos of demo_twin, with a planted shortcut: a time stamp in
                    each abnormal video, and in no normal one
  demo_all_stamped  the videos of demo_twin, with a time stamp in each; here the
                    shortcut fails

`benchmark transfer` trains in one and tests in another.
"""

import dataclasses
import json
import zlib

import numpy as np

from wsvad_jax.datasets.demo.recorder import PLAIN, Recorder
from wsvad_jax.datasets.demo.scenes import HOURS
from wsvad_jax.datasets.demo.world import NORMAL, VideoPlan, plan_video


@dataclasses.dataclass(frozen=True)
class World:
    """A demo world; the defaults are the demo's."""

    name: str = "demo"
    seed: int = 0
    videos: tuple[int, int] = (90, 45)  # number of training and test videos
    camera: int = 0  # of `scenes.CAMERAS`
    hours: tuple[float, ...] | None = None  # rates of HOURS; None plans as the demo
    recorder: Recorder = PLAIN
    stamps_abnormal: bool = False  # whether abnormal videos have a time stamp

    def plan(self, split: str, number: int, category: str) -> VideoPlan:
        """Plans a video with a first event of `category`, or a normal one."""
        plan = plan_video(split, number, category, self.seed)
        recorder = self.recorder
        if self.stamps_abnormal and category != NORMAL:
            recorder = dataclasses.replace(recorder, time_stamp=True)

        # All else stays as planned, so worlds of one seed have the same events.
        hour = plan.hour
        if self.hours is not None:
            key = zlib.crc32(plan.video.encode())
            rng = np.random.default_rng([self.seed, key, 6])
            hour = HOURS[rng.choice(len(HOURS), p=self.hours)]
        return dataclasses.replace(
            plan, camera=self.camera, hour=hour, recorder=recorder
        )

    @property
    def settings(self) -> dict:
        """What tells the world's files from another's, beside their number, as JSON."""
        # Older versions wrote the demo's seed alone, and their folders stay valid.
        settings = dataclasses.asdict(self)
        del settings["videos"]
        if dataclasses.replace(self, videos=DEMO.videos) == World(seed=self.seed):
            return {"seed": self.seed}
        return json.loads(json.dumps(settings))  # lists in the place of tuples


DEMO = World()
FEWER = (60, 64)  # videos of the other worlds, since rendering takes minutes
OTHERS = (
    World("demo_twin", 1, FEWER),
    World("demo_plaza", 2, FEWER, camera=1),
    World("demo_dusk", 3, FEWER, hours=(0.0, 0.7, 0.3)),
    World(
        *("demo_camera", 4, FEWER),
        recorder=Recorder(contrast=0.7, tint=(0.85, 1.0, 1.1), blur=1, noise=8.0),
    ),
    World("demo_stamp", 1, FEWER, stamps_abnormal=True),
    World("demo_all_stamped", 1, FEWER, recorder=Recorder(time_stamp=True)),
)
WORLDS = {world.name: world for world in (DEMO, *OTHERS)}
