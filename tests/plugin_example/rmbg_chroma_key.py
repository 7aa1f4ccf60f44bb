"""Background removal for photos in front of a screen of one color."""

import numpy as np

from rmbg.plugins import NoSubjectError, Option, Provider, ProviderInfo, Timer, local_cutout


class ChromaKey(Provider):
    """Removes the pixels whose color is similar to the median color of the photo's border."""

    info = ProviderInfo(
        id="chroma-key",
        title="Chroma key",
        kind="local",
        model="distance from the color of the screen, version 1",
        best_for="one-color backgrounds",
        license="MIT; free for any use, including commercial use.",
        license_url="https://opensource.org/license/mit",
        pixels="The photo stays on this machine.",
        seconds=0.3,
        supports=("offline", "deterministic"),
        options=(
            Option("tolerance", "Tolerance", 40, "Levels by which a color of the screen may differ.", minimum=1, maximum=255),
        ),
    )

    small_network = True  # each process of a batch may run it

    def cut(self, photo, options, context):
        timer = Timer()
        tolerance = options["tolerance"]

        def matte(photo):
            rgb = photo.flattened().astype(np.float32)
            border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
            distance = np.abs(rgb - np.median(border, axis=0)).max(axis=2)
            context.check()  # raises an exception if the user has cancelled the request
            alpha = np.clip(distance / tolerance - 1, 0, 1)  # soft from one to two times the tolerance
            if not alpha.any():
                raise NoSubjectError("The photo has the color of its border everywhere. Decrease the tolerance.")
            return alpha

        return local_cutout(self.info.id, photo, matte, timer, context)


CHROMA_KEY = ChromaKey()
