"""Fine detail: dried grasses in amber glass, and a plush bear."""

import numpy as np
from materials import fabric, glass, hair, leather, paper, principled
from shapes import (
    capsule,
    ellipsoid,
    join,
    lathe,
    mirrored,
    scatter,
    smooth,
    solid,
    strands,
    taper,
    tube,
)
from studio import add, camera, new_scene, plane, softbox, sweep


def normalize(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def droop(root, direction, length, steps, sag, rng, wave=0.0):
    """Strands (count, steps, 3) from `root` along `direction`, which sag under gravity and waver slightly."""
    t = np.linspace(0, 1, steps)[None, :, None]
    length = np.broadcast_to(np.asarray(length, float), len(root))[:, None, None]
    bend = normalize(rng.normal(size=direction.shape))[:, None] * wave
    fall = np.array([0, 0, -1.0]) * sag
    return root[:, None] + length * (t * direction[:, None] + t**2 * (bend + fall))


def plume(axis, width, rng, branches=170, hairs=60):
    """Plume of pampas grass along a path: branches with fine hairs."""
    n = len(axis)
    at = rng.uniform(0.02, 1, branches)
    i = np.minimum((at * (n - 1)).astype(int), n - 2)
    forward = normalize(axis[i + 1] - axis[i])
    out = normalize(np.cross(forward, rng.normal(size=(branches, 3))))
    outline = 0.25 + 1.1 * np.sin(np.pi * np.clip(at * 0.86 + 0.06, 0, 1)) ** 0.7
    reach = width * outline * rng.uniform(0.7, 1.2, branches)
    twigs = droop(axis[i], normalize(forward * 1.15 + out * 0.75), reach * 1.9, 12, 0.35, rng, 0.12)
    k = rng.integers(0, 11, (branches, hairs))
    f = rng.uniform(0, 1, (branches, hairs, 1))
    b = np.arange(branches)[:, None]
    root = twigs[b, k] * (1 - f) + twigs[b, k + 1] * f
    along = normalize(twigs[b, k + 1] - twigs[b, k])
    side = normalize(np.cross(along, rng.normal(size=along.shape)))
    fine = droop(root.reshape(-1, 3), normalize(along + 0.42 * side).reshape(-1, 3),
                 rng.uniform(0.10, 0.22, branches * hairs), 6, 0.2, rng, 0.15)  # fmt: skip
    return twigs, fine


def vase():
    """Pampas grass and hare's-tail grass in an amber bottle on a teal background."""
    rng = np.random.default_rng(7)
    new_scene(816, 1020, exposure=0.15)
    camera((0.4, -14.5, 3.5), (0.12, 0, 2.6), lens=85, fstop=2.2, focus=(0, -0.2, 2))
    sweep(paper((0.06, 0.20, 0.215)), depth=4.5)
    softbox((-5, -3, 6), (0, 0, 2), (2.5, 4), 900, (1, 0.95, 0.86))
    softbox((5, 1.5, 4), (0, 0, 2), (1.2, 4), 420, (1, 0.97, 0.92))
    softbox((-4.5, 3.5, 5), (-3, 6, 4), (2, 3), 300, (1, 0.95, 0.9))

    amber = glass((0.90, 0.42, 0.075))
    shell = [(0, 0.05), (0.42, 0.04), (0.62, 0.0), (0.72, 0.06), (0.78, 0.3), (0.79, 0.8), (0.72, 1.12), (0.48, 1.38),
             (0.255, 1.52), (0.22, 1.66), (0.22, 1.86), (0.275, 1.92), (0.285, 1.96), (0.25, 1.985), (0.19, 1.95),
             (0.165, 1.84), (0.165, 1.66), (0.20, 1.5), (0.42, 1.32), (0.66, 1.08), (0.72, 0.8), (0.71, 0.32),
             (0.64, 0.15), (0.4, 0.13), (0, 0.15)]  # fmt: skip
    add("bottle", lathe(shell, 220, 128), amber)

    straw = principled((0.52, 0.38, 0.18), 0.6)
    cream = hair((0.80, 0.64, 0.44), 0.35, 0.6)
    pale = hair((0.90, 0.80, 0.62), 0.25, 0.6)
    stems = [((-0.75, 0.05), 3.35, 4.75, 0.36), ((0.15, 0.2), 3.6, 5.0, 0.38), ((1.0, 0.0), 3.1, 4.3, 0.34)]
    for (dx, dy), begin, end, width in stems:
        path = smooth([(-dx * 0.5, -dy, 0.2), (dx * 0.04, dy * 0.1, 1.75), (dx * 0.55, dy, begin),
                       (dx * 0.95, dy, (begin + end) / 2 + 0.15), (dx * 1.65, dy - 0.15, end)], 160)  # fmt: skip
        add("stem", tube(path, taper([0.024, 0.02, 0.018, 0.012, 0.006], 160), 10), straw)
        head = path[np.argmin(np.abs(path[:, 2] - begin)) :]
        twigs, fine = plume(head, width, rng)
        add("twigs", strands(twigs, 0.005, 0.001), cream)
        add("fluff", strands(fine, 0.0032, 0.001), cream)
    tails = [(-1.2, -0.3, 2.75), (0.62, -0.45, 2.85), (1.45, -0.2, 2.45), (-0.38, -0.5, 2.55)]
    for x, y, z in tails:
        path = smooth([(-x * 0.3, -y * 0.5, 0.22), (x * 0.07, y * 0.1, 1.8),
                       (x * 0.6, y * 0.8, 1.75 + (z - 1.75) * 0.7), (x, y, z), (x * 1.14, y, z + 0.12),
                       (x * 1.22, y, z + 0.2)], 120)  # fmt: skip
        add("stem", tube(path, 0.011, 8), straw)
        core = path[-42:]
        count = 4200
        at = rng.uniform(0, 1, count)
        i = np.minimum((at * 40).astype(int), 40)
        forward = normalize(core[i + 1] - core[i])
        out = normalize(np.cross(forward, rng.normal(size=(count, 3))))
        radius = 0.10 * np.sin(np.pi * np.clip(at * 0.9 + 0.08, 0, 1)) ** 0.6
        root = core[i] + out * (radius * 0.8)[:, None]
        fine = droop(root, normalize(out * 0.7 + forward), rng.uniform(0.10, 0.2, count), 5, 0.05, rng, 0.2)
        add("tail", strands(fine, 0.0036, 0.001), pale)


def bear():
    """A plush bear with long fur and a silk bow, in front of blurred evening lights."""
    rng = np.random.default_rng(3)
    new_scene(1000, 1000, exposure=0.2)
    camera((1.0, -9.5, 2.1), (0.0, 0, 1.2), lens=96, fstop=0.4, focus=(0.1, -0.75, 1.6))
    plane(paper((0.10, 0.15, 0.24)), (0, 4, 0), (60, 40))
    plane(paper((0.035, 0.06, 0.12)), (0, 16, 8), (80, 60), "Y")
    for x, z, hue in zip(rng.uniform(-7, 7, 46), rng.uniform(0.6, 7.5, 46), rng.uniform(0, 1, 46), strict=True):
        glow = principled((0, 0, 0), Emission_Color=(0.35 + 0.35 * hue, 0.62, 1.0, 1), Emission_Strength=9.0)
        lamp = add("light", lathe([(0, -0.05), (0.05, 0), (0, 0.05)], 12, 12), glow, stage=True)
        lamp.location = (x - 0.9, 13 + 2 * hue, z)
    softbox((-4, -4.5, 5), (0, 0, 1.4), (3, 3), 520, (1, 0.93, 0.84))
    softbox((4.5, 0.5, 3.5), (0, 0, 1.4), (1.2, 3), 260, (0.85, 0.92, 1))
    softbox((-2.5, 3, 4.5), (0, 0, 1.8), (2, 2), 420, (1, 0.95, 0.9))

    def body(p):
        m = mirrored(p)
        d = ellipsoid(m, (0, 0.05, 0.72), (0.62, 0.52, 0.70))
        d = join(d, ellipsoid(m, (0, -0.05, 1.78), (0.58, 0.52, 0.52)), 0.12)
        d = join(d, ellipsoid(m, (0, -0.46, 1.66), (0.29, 0.26, 0.22)), 0.08)
        d = join(d, ellipsoid(m, (0.45, 0.02, 2.22), (0.20, 0.10, 0.20)), 0.05)
        d = join(d, capsule(m, (0.50, -0.02, 1.14), (0.70, -0.42, 0.62), 0.19, 0.17), 0.08)
        d = join(d, capsule(m, (0.36, -0.2, 0.26), (0.58, -0.92, 0.22), 0.25, 0.21), 0.08)
        d = join(d, ellipsoid(m, (0.60, -1.06, 0.30), (0.20, 0.13, 0.27)), 0.06)
        return np.maximum(d, 0.01 - m[..., 2])  # it sits on the floor

    skin = solid(body, (-1.1, -1.4, -0.2), (1.1, 0.8, 2.6), 0.022)
    add("skin", skin, fabric((0.30, 0.15, 0.06), (0.20, 0.09, 0.03)))

    def muzzle(v):
        return ellipsoid(v, (0, -0.5, 1.66), (0.29, 0.27, 0.22)) < 0.05

    def pads(v):
        x = np.abs(v[:, 0])
        return (v[:, 1] < -1.12) & (np.hypot((x - 0.6) / 0.17, (v[:, 2] - 0.28) / 0.24) < 1)

    def eyes(v):
        return np.linalg.norm(np.stack([np.abs(v[:, 0]) - 0.215, v[:, 1] + 0.50, v[:, 2] - 1.905], 1), axis=1) < 0.135

    for color, part, length, count in (
        ((0.50, 0.25, 0.085), lambda v: ~muzzle(v) & ~pads(v) & ~eyes(v), 0.17, 60000),
        ((0.84, 0.66, 0.42), lambda v: muzzle(v) & ~pads(v), 0.085, 9000),
        ((0.84, 0.66, 0.42), pads, 0.05, 5000),
    ):
        root, normal = scatter(skin, count, rng, lambda v, part=part: part(v).astype(float))
        x, y, z = root.T
        curl = np.stack([np.sin(y * 9 + z * 7), np.cos(x * 8 + 2), np.sin(x * 7)], 1)
        lie = normalize(normal + 0.33 * curl + np.array([0, 0, -0.28]) + 0.22 * rng.normal(size=normal.shape))
        fur = droop(root, lie, length * rng.uniform(0.6, 1.15, count), 6, 0.28, rng, 0.22)
        fur[..., 2] = np.maximum(fur[..., 2], 0.006)
        add("fur", strands(fur, 0.0042, 0.0012), hair(color, 0.38, 0.5))

    black = principled((0.012, 0.01, 0.01), 0.08, Coat_Weight=1.0)
    for x in (-0.215, 0.215):
        ball = lathe([(0, -0.085), (0.06, -0.06), (0.085, 0), (0.06, 0.06), (0, 0.085)], 40, 40)
        add("eye", ball, black).location = (x, -0.575, 1.915)

    def nose(p):
        return ellipsoid(p, (0, -0.765, 1.745), (0.115, 0.075, 0.078))

    hide = leather((0.03, 0.018, 0.015), (0.02, 0.012, 0.01), 70, 0.3)
    add("nose", solid(nose, (-0.2, -0.9, 1.6), (0.2, -0.6, 1.9), 0.01), hide)
    for x in (-1, 1):
        smile = [(0, -0.79, 1.66), (0, -0.80, 1.585), (x * 0.07, -0.785, 1.54), (x * 0.15, -0.735, 1.55)]
        add("smile", tube(smile, 0.013, 8, n=30), black)

    silk = fabric((0.50, 0.015, 0.03), (0.36, 0.008, 0.02), 120, 0.45)
    a = np.linspace(0, 2 * np.pi, 39, endpoint=False)
    ring = np.stack([0.50 * np.cos(a), 0.02 + 0.46 * np.sin(a), 1.27 + 0.05 * np.sin(a)], 1)
    add("collar", tube(ring, (0.035, 0.075), 16, closed=True, up=(0, 0, 1), power=4), silk)

    def bow(p):
        m = mirrored(p)
        fan = 0.03 + 0.30 * np.clip(m[..., 0] / 0.36, 0, 1)
        fold = 0.016 * np.sin(m[..., 2] / (fan + 0.05) * 26)
        q = np.stack([m[..., 0], m[..., 1] + fold, m[..., 2] * 0.24 / fan], -1)
        wing = ellipsoid(q, (0.22, -0.66, 0.0), (0.2, 0.085, 0.15)) * 0.6
        return join(wing, ellipsoid(m, (0, -0.68, 0), (0.075, 0.085, 0.085)), 0.02)

    add("bow", solid(bow, (-0.5, -0.85, -0.35), (0.5, -0.45, 0.35), 0.011), silk).location = (0, 0.04, 1.22)


SCENES = {"vase": vase, "bear": bear}
GLASS = ("vase",)
