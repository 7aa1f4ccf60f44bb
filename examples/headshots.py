"""Stylized portraits with individual strands of hair: a woman in a blurred office, a man in front of a gradient."""

import numpy as np
from materials import fabric, hair, metal, paper, principled
from shapes import capsule, carve, ellipsoid, join, loft, mirrored, scatter, solid, strands, tube
from studio import add, camera, new_scene, plane, softbox


def head(p, jaw=0.0, ears=True):
    """Signed distance to a head and neck, about 2.3 high, facing -y; `jaw` in [0, 1] broadens the lower half."""
    m = mirrored(p)
    d = ellipsoid(m, (0, 0.10, 0.42), (0.74, 0.88, 0.80))
    d = join(d, ellipsoid(m, (0, -0.26, -0.18), (0.52 + 0.05 * jaw, 0.52, 0.72), -0.06), 0.22)
    d = join(d, ellipsoid(m, (0, -0.60, -0.72 - 0.03 * jaw), (0.20 + 0.10 * jaw, 0.18, 0.16)), 0.16)
    d = join(d, ellipsoid(m, (0.34, -0.58, -0.14), (0.18, 0.16, 0.17)), 0.16)
    d = join(d, ellipsoid(m, (0.27, -0.73, 0.30), (0.20, 0.08, 0.055 + 0.012 * jaw)), 0.12)
    d = carve(d, ellipsoid(m, (0.29, -0.90, 0.10), (0.19, 0.17, 0.14)), 0.12)
    d = join(d, ellipsoid(m, (0.285, -0.625, 0.095), (0.175, 0.15, 0.145)), 0.03)
    d = join(d, capsule(m, (0, -0.76, 0.18), (0, -0.98, -0.16), 0.055, 0.085), 0.10)
    d = join(d, ellipsoid(m, (0.085, -0.90, -0.185), (0.065, 0.085, 0.055)), 0.04)
    d = carve(d, ellipsoid(m, (0.055, -0.945, -0.245), (0.028, 0.04, 0.02)), 0.02)
    d = join(d, ellipsoid(m, (0, -0.75, -0.40), (0.22, 0.12, 0.13)), 0.10)
    if ears:
        ear = ellipsoid(m, (0.75, 0.08, 0.05), (0.075, 0.16, 0.24))
        ear = carve(ear, ellipsoid(m, (0.83, 0.02, 0.07), (0.06, 0.09, 0.15)), 0.05)
        d = join(d, ear, 0.06)
    neck = capsule(m, (0, 0.16, -0.4), (0, 0.26, -1.6), 0.36 + 0.07 * jaw, 0.40 + 0.08 * jaw)
    return join(d, neck, 0.14)


def lips(p, full=1.0):
    m = mirrored(p)
    upper = capsule(m, (0.035, -0.875, -0.405), (0.20, -0.795, -0.425), 0.036 * full, 0.012)
    lower = capsule(m, (0, -0.875, -0.475), (0.18, -0.80, -0.435), 0.046 * full, 0.012)
    return np.minimum(upper, lower)


def near_ear(v):
    return (np.abs(v[:, 0]) > 0.66) & (np.abs(v[:, 1] - 0.08) < 0.22) & (np.abs(v[:, 2] - 0.04) < 0.33)


def skin(color, blush):
    return principled(
        color, 0.42, Subsurface_Weight=0.25, Subsurface_Radius=(0.10, 0.035, 0.018), Subsurface_Scale=0.6,
        Specular_IOR_Level=0.4, Sheen_Weight=0.06, Sheen_Tint=(*blush, 1),
    )  # fmt: skip


def face(tone, blush, iris, jaw=0.0, mouth=(0.42, 0.10, 0.09), lid=0.062):
    """Add skin, eyes with lids and lashes, and lips; returns the mesh of the head as the base of the hair."""
    flesh = skin(tone, blush)

    def bare(p):
        m = mirrored(p)
        d = head(p, jaw)
        return carve(d, ellipsoid(m, (0.285, -0.76, 0.095), (0.135, 0.13, lid)), 0.015)

    data = solid(bare, (-1.0, -1.2, -1.6), (1.0, 1.15, 1.4), 0.0165)
    add("head", data, flesh)
    add("lips", solid(lambda p: join(lips(p), lips(p), 0.02), (-0.3, -1.0, -0.6), (0.3, -0.7, -0.3), 0.008),
        principled(mouth, 0.32, Specular_IOR_Level=0.5))  # fmt: skip
    white = principled((0.80, 0.78, 0.76), 0.12, Coat_Weight=1.0)
    color = principled(iris, 0.2, Coat_Weight=1.0)
    black = principled((0.005, 0.005, 0.005), 0.05, Coat_Weight=1.0)
    for side in (-1, 1):
        center = np.array([side * 0.285, -0.64, 0.095])
        gaze = np.array([0.02, -1.0, 0.01])
        add(
            "eye",
            solid(lambda p, c=center: ellipsoid(p, c, (0.14, 0.14, 0.14)), center - 0.2, center + 0.2, 0.012),
            white,
        )
        for radius, mat, out in ((0.074, color, 0.126), (0.036, black, 0.137)):
            at = center + gaze * out
            disc = solid(lambda p, c=at, r=radius: ellipsoid(p, c, (r, 0.016, r)), at - 0.1, at + 0.1, 0.005)
            add("iris", disc, mat)
    return data


def brows(color, rng, thick=1.0):
    for side in (-1, 1):
        n = 420
        t = rng.uniform(0, 1, n)
        x = 0.11 + 0.36 * t
        z = 0.315 + 0.06 * np.sin(np.pi * (0.12 + 0.62 * t)) + rng.normal(0, 0.012 * thick * (1.15 - t), n)
        y = -0.835 + 0.42 * (x - 0.05) ** 2 + 0.03 * t
        root = np.stack([side * x, y, z], 1)
        lie = np.stack([np.full(n, side * 0.09), 0.02 + 0.05 * t, 0.035 - 0.05 * t], 1) * rng.uniform(0.6, 1.2, (n, 1))
        s = np.linspace(0, 1, 4)[None, :, None]
        add("brow", strands(root[:, None] + s * lie[:, None] - s**2 * (0, 0, 0.012), 0.0042, 0.0012), hair(color, 0.3))


def lashes(rng):
    for side in (-1, 1):
        t = np.linspace(-1, 1, 60)
        root = np.stack([side * 0.285 + 0.135 * t, -0.795 + 0.075 * t**2, 0.095 + 0.062 * np.sqrt(1.02 - t**2)], 1)
        s = np.linspace(0, 1, 5)[None, :, None]
        lie = np.stack([0.035 * t, np.full(60, -0.055), np.full(60, 0.012)], 1)[:, None]
        add("lash", strands(root[:, None] + s * lie + s**2 * (0, 0, 0.022), 0.0045, 0.001),
            hair((0.012, 0.008, 0.006), 0.2))  # fmt: skip


def bust(color, dark, broad=1.0, collar=0.3):
    """Add shoulders in a knitted pullover with a rolled collar of a given height."""
    cloth = fabric(color, dark, 70)

    def torso(p):
        m = mirrored(p)
        d = capsule(m, (0, 0.28, -1.42), (0.95 * broad, 0.34, -1.78), 0.30, 0.36)
        d = join(d, capsule(m, (0.98 * broad, 0.36, -1.8), (1.25 * broad, 0.36, -3.6), 0.38, 0.36), 0.25)
        d = join(d, ellipsoid(m, (0, 0.22, -2.7), (1.02 * broad, 0.62, 1.25)), 0.35)
        d = join(d, ellipsoid(m, (0, 0.22, -1.8), (0.80 * broad, 0.58, 0.55)), 0.25)
        folds = 0.012 * np.sin(m[..., 2] * 5 + m[..., 0] * 7) * np.sin(m[..., 0] * 4 + 1)
        d = d + folds
        return d

    add("torso", solid(torso, (-1.9, -0.8, -3.4), (1.9, 1.2, -0.7), 0.03), cloth)
    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 240, endpoint=False), np.linspace(0, 1, 34))
    bulge = 0.06 * np.sin(np.pi * rise) ** 0.5 + 0.012 * np.sin(turn * 60)
    wide = 0.40 + 0.07 * broad + 0.12 * (1 - rise) ** 2 + bulge - 0.06 * (rise > 0.985)
    z = -1.34 + (collar + 0.42) * rise - 0.42
    ring = np.stack([wide * np.cos(turn), 0.21 + 0.93 * wide * np.sin(turn) - 0.02 * rise, z + 0.10 * np.sin(turn) * rise], -1)
    add("collar", loft(ring), cloth)


def locks(data, rng, count, grow, where, jitter):
    """`count` strands with density `where` along `grow(root, normal)`; neighboring strands vary together."""
    root, normal = scatter(data, count, rng, where)
    path = grow(root, normal)
    steps = path.shape[1]
    s = np.linspace(0, 1, steps)[None, :, None]
    cell = np.floor(root * 7).astype(int) @ np.array([1, 31, 957])
    wander = np.stack([np.sin(cell * k + np.array([1.0, 2.0, 4.0])[j]) for j, k in enumerate((1.3, 2.1, 0.7))], 1)
    return path + jitter * (s**1.5 * wander[:, None] + s * 0.5 * rng.normal(size=(count, 1, 3)))


def office():
    """Add a room: wall, window panes, a shelf with binders, and a green shape that resembles a plant."""
    plane(paper((0.50, 0.53, 0.55)), (0, 14, 0), (80, 50), "Y")
    glow = principled((0, 0, 0), Emission_Color=(0.80, 0.92, 1.0, 1), Emission_Strength=1.5)
    for x in (-5.2, -3.2):
        for z in (-1.2, 1.8):
            plane(glow, (x, 13.9, z), (2.0, 2.7), "Y")
    plane(paper((0.30, 0.20, 0.13)), (2.0, 13.7, 0.2), (4.2, 12), "Y")
    rng = np.random.default_rng(2)
    for z in (-2.2, -0.5, 1.2, 2.9):
        for k in range(9):
            tone = [(0.50, 0.16, 0.10), (0.15, 0.28, 0.40), (0.62, 0.58, 0.50), (0.20, 0.34, 0.25)][rng.integers(4)]
            plane(paper(tone), (0.3 + 0.42 * k, 13.5, z - 0.15 * rng.random()), (0.36, 1.1), "Y")


def woman():
    """A woman with long auburn hair and a dark turtleneck, in a bright, blurred office."""
    rng = np.random.default_rng(11)
    new_scene(816, 1020, exposure=0.2)
    camera((1.5, -11.5, 0.25), (0.03, 0, -0.42), lens=98, fstop=0.55, focus=(0.12, -0.75, 0.1))
    office()
    softbox((-4.5, -5, 3), (0, 0, 0), (2.5, 2.5), 620, (1, 0.95, 0.9))
    softbox((5, -4, 1), (0, 0, -0.2), (3, 3), 170, (0.92, 0.96, 1))
    softbox((3.5, 4, 3.5), (0, 0, 0.2), (1.5, 2.5), 520, (1, 0.93, 0.85))
    softbox((0, 5, 7), (0, 14, 0), (8, 3), 1500)
    data = face((0.72, 0.42, 0.30), (0.9, 0.4, 0.35), (0.12, 0.20, 0.12))
    brows((0.11, 0.045, 0.02), rng)
    lashes(rng)
    bust((0.035, 0.05, 0.10), (0.02, 0.03, 0.06), 0.86, 0.42)

    def scalp(v):
        front = v[:, 1] < -0.52 - 0.55 * (v[:, 2] - 0.75)
        low = v[:, 2] < 0.28 - 0.75 * np.clip(v[:, 1] + 0.1, -0.4, 0.6)
        return (~front & ~low & (v[:, 2] > -0.45)).astype(float)

    def grow(root, normal):
        n, steps = len(root), 22
        side = np.sign(root[:, 0] + 0.16)[:, None]  # the parting is off center
        s = np.linspace(0, 1, steps)
        angle = np.arctan2(root[:, 1] - 0.12, np.abs(root[:, 0] + 0.0) + 0.25)
        shell = rng.uniform(0.0, 0.17, n)
        rx, ry = 0.74 + shell, 0.96 + shell
        out = np.empty((n, steps, 3))
        fall = rng.uniform(1.7, 2.3, n)
        for k, t in enumerate(s):
            drop = root[:, 2] + 0.14 * np.sin(np.pi * min(1, t * 2.2)) * 0.5 - fall * t**1.25 * 1.0
            spread = np.clip(t / 0.33, 0, 1) ** 0.75
            wave = 0.07 * np.sin(7.0 * t + 3.0 * angle) * t
            tx = side[:, 0] * (np.cos(angle * 0.9) * rx * (1 + 0.10 * t) + wave)
            ty = 0.15 + np.sin(angle) * ry + wave * 0.5
            ty = np.maximum(ty, -0.56 - 0.10 * t)
            dome = np.sqrt(np.clip(1 - (np.maximum(drop - 0.30, 0) / 1.10) ** 2, 0.03, 1))
            out[:, k, 0] = root[:, 0] * (1 - spread) + tx * dome * spread
            out[:, k, 1] = root[:, 1] * (1 - spread) + ty * dome * spread
            out[:, k, 2] = drop
        out += (
            normal[:, None]
            * (0.05 + 0.10 * np.sin(np.pi * np.clip(s * 2.0, 0, 1)))[None, :, None]
            * (0.5 + shell * 4)[:, None, None]
        )
        return out

    path = locks(data, rng, 42000, grow, scalp, 0.05)
    add("hair", strands(path, 0.0042, 0.0015), hair((0.20, 0.062, 0.022), 0.45, 0.32))

    def fringe(v):
        return ((v[:, 1] < -0.18) & (v[:, 2] > 0.86) & (np.abs(v[:, 0]) < 0.5)).astype(float)

    def sweep_down(root, normal):
        s = np.linspace(0, 1, 12)[None, :]
        away = np.where(root[:, 0] > -0.16, 1.0, -1.0)[:, None]
        end = np.abs(root[:, :1] + 0.16) * 0.75 + 0.16
        x = root[:, :1] + away * end * s**1.3
        z = root[:, 2:] + 0.05 * np.sin(np.pi * s) - (root[:, 2:] - 0.36 + 0.22 * end) * s**1.7
        bow = np.sqrt(np.clip(1 - (x / 0.80) ** 2, 0.02, 1) * np.clip(1 - ((z - 0.40) / 0.88) ** 2, 0.02, 1))
        y = np.minimum(root[:, 1:2] * (1 - s), 0.10 - 0.99 * bow) - 0.03 - 0.05 * np.sin(np.pi * s)
        return np.stack([x, y, z], -1)

    bangs = locks(data, rng, 7000, sweep_down, fringe, 0.03)
    add("fringe", strands(bangs, 0.0042, 0.0012), hair((0.20, 0.062, 0.022), 0.45, 0.32))
    stray = locks(data, rng, 900, grow, scalp, 0.16)
    add("stray", strands(stray, 0.0028, 0.001), hair((0.26, 0.09, 0.035), 0.4, 0.32))


def man():
    """A man with short dark hair, a beard and round glasses, in front of a warm gradient."""
    rng = np.random.default_rng(5)
    new_scene(816, 1020, exposure=0.2)
    camera((-1.7, -11.5, 0.2), (0.0, 0, -0.36), lens=92, fstop=1.2, focus=(-0.12, -0.75, 0.1))
    plane(paper((0.42, 0.47, 0.50)), (0, 9, 0), (80, 50), "Y")
    softbox((4.5, -5, 3.2), (0, 0, 0), (2.2, 2.2), 620, (1, 0.95, 0.88))
    softbox((-5, -3.5, 0.5), (0, 0, -0.2), (2.5, 3), 130, (0.88, 0.94, 1))
    softbox((-3.5, 4, 3.2), (0, 0, 0.2), (1.2, 2.5), 480)
    softbox((0, 4.5, -3.5), (0, 9, -0.5), (3, 2), 700, (0.95, 0.97, 1))
    data = face((0.40, 0.20, 0.12), (0.7, 0.3, 0.2), (0.07, 0.035, 0.015), jaw=1.0, mouth=(0.25, 0.085, 0.07), lid=0.046)
    brows((0.012, 0.009, 0.008), rng, 1.7)
    bust((0.42, 0.14, 0.045), (0.28, 0.08, 0.02), 1.04, 0.16)
    black = (0.012, 0.009, 0.008)

    def scalp(v):
        front = v[:, 1] < -0.50 - 0.45 * (v[:, 2] - 0.75)
        low = v[:, 2] < 0.36 - 0.95 * np.clip(v[:, 1] - 0.05, -0.2, 0.75)
        return (~front & ~low & ~near_ear(v)).astype(float)

    def up(root, normal):
        s = np.linspace(0, 1, 9)[None, :, None]
        top = np.clip((root[:, 2] - 0.55) / 0.5, 0.0, 1)[:, None]
        size = 0.08 + 0.27 * top
        swirl = np.stack([np.sin(root[:, 1] * 8), np.cos(root[:, 0] * 7), np.sin(root[:, 0] * 9)], 1)
        lie = normal + 0.6 * swirl * top + np.array([0.25, -0.15, 0.1]) * top + (0, 0.5, -0.5) * (1 - top)
        lie += 0.22 * rng.normal(size=lie.shape)
        curl = np.array([0.30, 0.15, -0.45])
        return root[:, None] + size[:, None] * (s * lie[:, None] * 0.75 + s**2 * curl * 0.6)

    add("hair", strands(locks(data, rng, 26000, up, scalp, 0.03), 0.0048, 0.0015), hair(black, 0.3, 0.3))

    def beard(v):
        m = np.abs(v[:, 0])
        jawline = (v[:, 2] < -0.30 + 0.75 * np.clip(m - 0.30, 0, 0.3)) & (v[:, 2] > -1.02) & (v[:, 1] < 0.12)
        side = (m > 0.5) & (m < 0.74) & (v[:, 1] > -0.32) & (v[:, 1] < -0.06) & (v[:, 2] < 0.34) & (v[:, 2] > -0.7)
        mouth = (m < 0.24) & (v[:, 2] > -0.53) & (v[:, 2] < -0.37)
        nose = v[:, 1] < -0.90
        return ((jawline | side) & ~near_ear(v) & ~mouth & ~nose).astype(float)

    def down(root, normal):
        s = np.linspace(0, 1, 6)[None, :, None]
        size = 0.10 + 0.10 * np.clip((-0.45 - root[:, 2]) / 0.4, 0, 1)[:, None]
        lie = normal * 0.6 + (0, -0.1, -0.75) + 0.22 * rng.normal(size=normal.shape)
        return root[:, None] + size[:, None] * (s * lie[:, None] + s**2 * normal[:, None] * -0.25)

    add("beard", strands(locks(data, rng, 16000, down, beard, 0.012), 0.0042, 0.0014), hair(black, 0.3, 0.35))
    wire = metal((0.55, 0.42, 0.22), 0.2)
    a = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    for x in (-0.31, 0.31):
        rim = np.stack([x + 0.235 * np.cos(a), -0.945 + 0.25 * (x + 0.235 * np.cos(a)) ** 2, 0.07 + 0.215 * np.sin(a)], 1)
        add("rim", tube(rim, 0.014, 10, closed=True), wire)
        arm = [(x * 1.76, -0.87, 0.11), (x * 2.3, -0.72, 0.13), (x * 2.47, -0.2, 0.13), (x * 2.46, 0.12, 0.12)]
        add("arm", tube(arm, 0.012, 8, n=40), wire)
    bridge = [(-0.085, -0.94, 0.10), (0, -0.965, 0.135), (0.085, -0.94, 0.10)]
    add("bridge", tube(bridge, 0.013, 8, n=20), wire)


SCENES = {"man": man, "woman": woman}
GLASS = ()
