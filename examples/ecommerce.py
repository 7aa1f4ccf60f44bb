"""Products on studio sweeps: a teapot with a cup, a chair, and headphones."""

import math

import numpy as np
from materials import fabric, glaze, leather, metal, paper, principled, wood
from mathutils import Matrix
from shapes import box, fuse, grid_faces, lathe, mesh, smooth, taper, tube
from studio import add, camera, new_scene, pose, softbox, sweep


def teapot():
    """A stoneware teapot with a cup, glazed in celadon over bare clay, on warm sand."""
    new_scene(1060, 848, exposure=0.1)
    camera((1.3, -11.6, 4.4), (0.12, 0, 0.72), lens=110, fstop=4, focus=(0.2, -0.8, 0.8))
    sweep(paper((0.66, 0.40, 0.26)))
    softbox((-5, -3, 5.5), (0, 0, 0.8), (3.5, 3.5), 620, (1, 0.95, 0.88))
    softbox((5.5, -1, 3.5), (0, 0, 0.8), (1.2, 4), 190, (0.85, 0.93, 1))
    softbox((0, 4, 6.5), (0, 0, 0.5), (4, 2), 330)
    glazed = glaze((0.07, 0.26, 0.25), (0.015, 0.075, 0.10), (0.30, 0.13, 0.07), foot=0.11)

    body = [(0, 0.03), (0.5, 0.03), (0.56, 0), (0.62, 0.02), (0.72, 0.14), (0.98, 0.45), (1.06, 0.78), (0.93, 1.1),
            (0.66, 1.3), (0.5, 1.37), (0.47, 1.42), (0.43, 1.4), (0.42, 1.3), (0, 1.28)]  # fmt: skip
    pot = add("pot", lathe(body, 160, 128), glazed)
    spout = smooth([(0.7, 0, 0.5), (1.05, 0, 0.62), (1.3, 0, 0.95), (1.45, 0, 1.24), (1.66, 0, 1.4)], 70)
    width = taper([0.36, 0.27, 0.17, 0.135, 0.115], 70)
    lip = np.array([0.115, 0.1, 0.085, 0.08, 0.08, 0.08])
    back = spout[-1] + np.outer([0.025, 0.025, 0.0, -0.05, -0.1, -0.16], spout[-1] - spout[-3]) / np.linalg.norm(
        spout[-1] - spout[-3]
    )
    hollow = tube_with_bore(np.vstack([spout, back]), np.concatenate([width, lip]))
    parts = [add("spout", hollow, glazed)]
    ear = [(-0.8, 0, 1.16), (-1.12, 0, 1.33), (-1.45, 0, 1.27), (-1.58, 0, 0.98), (-1.42, 0, 0.66), (-0.92, 0, 0.5)]
    thick, wide = taper([0.085, 0.06, 0.055, 0.055, 0.06, 0.09], 80), taper([0.15, 0.12, 0.115, 0.11, 0.11, 0.14], 80)
    grip = tube(ear, np.stack([thick, wide], 1), up=(0, 1, 0.001), n=80)
    parts.append(add("grip", grip, glazed))
    fuse(pot, parts, 0.016)
    lid = [(0, 1.42), (0.44, 1.42), (0.47, 1.44), (0.465, 1.465), (0.40, 1.5), (0.27, 1.56), (0.12, 1.6), (0.075, 1.63),
           (0.08, 1.68), (0.13, 1.73), (0.135, 1.79), (0.09, 1.83), (0, 1.84)]  # fmt: skip
    add("lid", lathe(lid, 130, 96), glazed)
    cup = [(0, 0.04), (0.2, 0.04), (0.23, 0), (0.26, 0.02), (0.30, 0.1), (0.40, 0.3), (0.43, 0.52), (0.425, 0.56),
           (0.405, 0.55), (0.39, 0.45), (0.34, 0.25), (0.2, 0.14), (0, 0.13)]  # fmt: skip
    add("cup", lathe(cup, 120, 96), glazed).location = (1.15, -1.15, 0)


def tube_with_bore(path, radius):
    """Tube whose path turns back inside at its end, so that the mouth is open."""
    direction = path[-7] - path[-9]
    normal = np.cross(direction, (0, 1, 0))
    normal /= np.linalg.norm(normal)
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    t = np.gradient(path[:-6], axis=0)
    t = np.vstack([t, np.repeat(t[-1:], 6, 0)])
    n = np.cross(t, (0, 1, 0))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    ring = path[:, None] + radius[:, None, None] * (
        np.cos(a)[None, :, None] * n[:, None] + np.sin(a)[None, :, None] * np.array([0, 1.0, 0])
    )
    return mesh(ring.reshape(-1, 3), grid_faces(len(path), 48, caps=True))


def chair():
    """A Windsor chair in oiled oak in front of a muted green wall."""
    new_scene(816, 1020, exposure=0.15)
    camera((3.6, -9.4, 4.0), (0.05, 0.0, 1.68), lens=84)
    sweep(paper((0.20, 0.33, 0.31)), depth=3.5)
    softbox((-5, -4, 6), (0, 0, 1.5), (3, 4), 900, (1, 0.94, 0.86))
    softbox((6, -2, 4), (0, 0, 1.5), (1.5, 4), 230, (0.9, 0.95, 1))
    softbox((-1, 3.4, 6.5), (0, 0, 1.5), (4, 2), 300)
    oak = wood((0.52, 0.26, 0.10), (0.22, 0.085, 0.03), 1.2)

    # The seat: a shield-shaped outline, a rounded edge and a saddle-shaped top.
    rings, cols = 44, 160
    a = np.linspace(0, 2 * np.pi, cols, endpoint=False)
    outline = np.stack([1.0 * np.sign(np.cos(a)) * np.abs(np.cos(a)) ** 0.82,
                        0.92 * np.sign(np.sin(a)) * np.abs(np.sin(a)) ** 0.82], 1)  # fmt: skip
    r = np.concatenate([np.linspace(0.001, 0.86, 12), [0.92, 0.96, 0.985, 1.0, 1.0, 0.985, 0.96],
                        np.linspace(0.93, 0.001, rings - 19)])  # fmt: skip
    h = np.concatenate([np.full(12, -0.09), [-0.085, -0.07, -0.045, -0.015, 0.02, 0.045, 0.058],
                        np.full(rings - 19, 0.065)])  # fmt: skip
    xy = r[:, None, None] * outline[None]
    top = (h > 0.06)[:, None]
    dish = 0.075 * np.exp(-((np.abs(xy[..., 0]) - 0.38) ** 2) / 0.11 - (xy[..., 1] - 0.08) ** 2 / 0.22)
    z = 1.72 + h[:, None] - top * dish * np.clip((0.97 - r) / 0.3, 0, 1)[:, None]
    verts = np.concatenate([xy, z[..., None]], -1).reshape(-1, 3)
    grain = verts[:, [0, 2, 1]] + (3.0, 0.4, 0)
    add("seat", mesh(verts, grid_faces(rings, cols, caps=True), grain, sharp=60), oak)

    feet = [(-0.92, -0.86), (0.92, -0.86), (-0.86, 0.98), (0.86, 0.98)]
    heads = [(-0.62, -0.56), (0.62, -0.56), (-0.56, 0.56), (0.56, 0.56)]
    shape = [0.062, 0.075, 0.098, 0.1, 0.08, 0.062, 0.085, 0.088, 0.06, 0.075, 0.078, 0.062, 0.055, 0.045]
    joints = []
    for f, s in zip(feet, heads, strict=True):
        top, foot = np.array([*s, 1.66]), np.array([*f, 0.0])
        line = np.linspace(top, foot, 90)
        add("leg", tube(line, taper(shape, 90), 24), oak)
        joints.append(top + (foot - top) * 0.60)
        for groove in (0.315, 0.60, 0.665):
            p = top + (foot - top) * groove
            half = (foot - top) * 0.006
            add("bead", tube([p - half, p, p + half], taper([0.07, 0.1, 0.07], 12), 24, n=12), oak)
    swell = taper([0.035, 0.045, 0.068, 0.045, 0.035], 40)
    sides = [(joints[0], joints[2]), (joints[1], joints[3])]
    for p, q in [*sides, ((joints[0] + joints[2]) / 2, (joints[1] + joints[3]) / 2)]:
        add("stretcher", tube(np.linspace(p, q, 40), swell, 20), oak)

    # The back: a bent hoop and spindles at the same angle.
    def lean(x, z):
        return np.array([x, 0.66 + 0.30 * (z - 1.75) / 1.9 + 0.04 * x * x, z])

    hoop = [lean(x, z) - (0, max(0, 0.16 * (abs(x) - 0.5)), 0) for x, z in
            [(-0.74, 1.74), (-0.83, 2.2), (-0.88, 2.7), (-0.83, 3.15), (-0.58, 3.52), (0, 3.68),
             (0.58, 3.52), (0.83, 3.15), (0.88, 2.7), (0.83, 2.2), (0.74, 1.74)]]  # fmt: skip
    add("hoop", tube(hoop, (0.052, 0.052), 24, n=160), oak)
    path = smooth(hoop, 400)
    for x in np.linspace(-0.52, 0.52, 7):
        end = path[np.argmin(np.abs(path[:, 0] - x * 1.22) + (path[:, 2] < 2.9) * 9)]
        line = np.linspace(lean(x, 1.74), end, 60)
        add("spindle", tube(line, taper([0.026, 0.036, 0.042, 0.036, 0.028, 0.022, 0.02], 60), 18), oak)


def headphones():
    """Over-ear headphones in ivory and brushed copper with tan cushions, standing on a plum sweep."""
    new_scene(1000, 1000, exposure=0.15)
    camera((3.6, -9.6, 2.7), (0.0, 0, 1.2), lens=116, fstop=5.6, focus=(0.2, -0.6, 1.0))
    sweep(paper((0.17, 0.085, 0.16)), depth=3.0, z=0.135)
    softbox((-4.5, -4, 5), (0, 0, 1), (3, 3), 800, (1, 0.95, 0.9))
    softbox((5.5, -2.5, 2.8), (0, 0, 1), (1.6, 4), 330, (0.92, 0.95, 1))
    softbox((0, 3, 6), (0, 0, 1), (4, 2), 420)
    shell = principled((0.78, 0.72, 0.62), 0.28, Coat_Weight=0.3)
    copper = metal((0.85, 0.45, 0.28), 0.2)
    cushion = leather((0.42, 0.19, 0.075), (0.27, 0.11, 0.04), 46)
    dark = fabric((0.03, 0.03, 0.035), (0.015, 0.015, 0.018), 140)

    turn = np.linspace(math.radians(-6), math.radians(186), 160)
    arch = np.stack([0.92 * np.cos(turn), 0 * turn, 1.33 + 0.95 * np.sin(turn)], 1)
    add("spring", band(arch, 0.024, 0.11), copper)
    middle = arch[26:-26]
    t = np.linspace(-1, 1, len(middle))
    swell = np.clip(1 - t**10, 0.02, 1) ** 0.5
    out = middle + 0.045 * (middle - (0, 0, 1.33))
    add("wrap", band(out, 0.045 * swell, 0.155 * swell, 2.6), shell)
    pad = middle - 0.055 * (middle - (0, 0, 1.33))
    add("pad", band(pad, (0.062 + 0.012 * np.cos(t * 24)) * swell, 0.145 * swell, 2.4), cushion)

    for side in (-1, 1):
        worn = pose((side * 0.93, 0, 0.76), (0, side * math.radians(9), side * math.radians(-5)))
        worn = worn @ pose((0, 0, 0), (0, side * math.pi / 2, 0))
        # In these profiles +z points outwards from the ear; the cup is taller than wide.
        oval = Matrix.Diagonal((1.14, 0.96, 1, 1))
        cup = [(0, 0.22), (0.2, 0.225), (0.34, 0.215), (0.44, 0.18), (0.52, 0.10), (0.545, 0.02), (0.54, -0.06),
               (0.50, -0.10), (0, -0.10)]  # fmt: skip
        soft = [(0, -0.16), (0.22, -0.17), (0.25, -0.24), (0.32, -0.32), (0.42, -0.335), (0.52, -0.30), (0.565, -0.22),
                (0.55, -0.14), (0.48, -0.09), (0, -0.09)]  # fmt: skip
        ring = [(0.0, 0.2), (0.30, 0.2), (0.335, 0.235), (0.36, 0.245), (0.385, 0.235), (0.40, 0.18), (0, 0.18)]
        disc = [(0, 0.246), (0.05, 0.246), (0.10, 0.242), (0.28, 0.238), (0.315, 0.225), (0.32, 0.2), (0, 0.2)]
        groove = [(0, 0.03), (0.552, 0.03), (0.562, 0.02), (0.562, 0.0), (0.552, -0.01), (0, -0.01)]
        mesh_cloth = [(0, -0.15), (0.24, -0.155), (0.26, -0.18), (0.0, -0.18)]
        parts = [(cup, shell, True), (soft, cushion, True), (ring, copper, True), (disc, dark, True)]
        for profile, mat, spline in [*parts, (groove, copper, False), (mesh_cloth, dark, False)]:
            turned = lathe(profile, 140, 128, spline, sharp=None if spline else 35)
            add("cup", turned, mat).matrix_world = worn @ oval
        for k in range(7):
            slot = add("slot", box((0.012, 0.10 + 0.05 * (3 - abs(k - 3)), 0.01), bevel=0.004), copper)
            slot.matrix_world = worn @ pose(((k - 3) * 0.035, 0, 0.243))
        arc = np.linspace(math.radians(18), math.radians(162), 60)
        fork = np.stack([0.62 * np.sin(arc) * 1.1, 0.60 * np.cos(arc), 0.03 + 0 * arc], 1)
        fork[:, 0] *= -side
        add("fork", tube(fork, (0.026, 0.038), 18, up=(0, 0, 1), power=4), copper).matrix_world = worn
        for y in (-1, 1):
            pin = add("pin", lathe([(0, -0.04), (0.05, -0.035), (0.055, 0.03), (0.045, 0.045), (0, 0.05)], 40, 40), copper)
            pin.matrix_world = worn @ pose((-0.2 * side, y * 0.565, 0.03), (-y * math.pi / 2, 0, 0))


def band(path, thick, wide, power=5.0):
    """Band along an arch in the x-z plane, `thick` in the plane and `wide` along y."""
    n = len(path)
    pair = np.stack([np.broadcast_to(wide, n), np.broadcast_to(thick, n)], 1)
    return tube(path, pair, 36, up=(0, 1, 0), power=power)


SCENES = {"teapot": teapot, "chair": chair, "headphones": headphones}
GLASS = ()
