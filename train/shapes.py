"""Shapes of procedural subjects: hair, fur, leaves, wires, lattices, holes, signs, glass and smoke.

A shape is a list of polygons in a square from -1 to 1, computed as arrays from a random generator.
"""

from collections.abc import Callable

import numpy as np

#: Points (N, 2) in [-1, 1] and the alpha in [0, 1] that they are filled with. Later polygons replace earlier ones.
Polygon = tuple[np.ndarray, float]


def strips(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Outlines of strokes.

    Parameters
    ----------
    points : float array (N, K, 2)
        K points of each of N strokes.
    widths : float array, broadcast to (N, K)

    Returns
    -------
    float array (N, 2 K, 2)
    """
    tangent = np.gradient(points, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=2, keepdims=True), 1e-9)
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=2)
    offset = normal * (np.broadcast_to(widths, points.shape[:2])[..., None] / 2)
    return np.concatenate([points + offset, (points - offset)[:, ::-1]], axis=1)


def strokes(points: np.ndarray, widths: np.ndarray | float, alpha: float = 1.0) -> list[Polygon]:
    """Polygons of strokes, see `strips`."""
    return [(outline, alpha) for outline in strips(np.asarray(points, float), np.asarray(widths, float))]


def ellipse(x: float, y: float, a: float, b: float, angle: float = 0.0, count: int = 60) -> np.ndarray:
    """Points of an ellipse."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack([x + u * np.cos(angle) - v * np.sin(angle), y + u * np.sin(angle) + v * np.cos(angle)], 1)


def ring(x: float, y: float, a: float, b: float, width: float) -> list[Polygon]:
    """Outline of an ellipse as a closed stroke."""
    points = ellipse(x, y, a, b, count=80)
    return strokes(np.concatenate([points, points[:1]])[None], width)


def blob(rng: np.random.Generator, radius: float, roughness: float = 0.12, count: int = 200) -> np.ndarray:
    """Points of a closed smooth outline around the origin."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    order = np.arange(1, 6)
    amplitude, phase = rng.normal(size=5) * roughness / order, rng.uniform(0, 2 * np.pi, 5)
    r = radius * (1 + (amplitude[:, None] * np.sin(order[:, None] * t + phase[:, None])).sum(0)).clip(0.4, 1.6)
    return np.stack([r * np.cos(t), r * np.sin(t)], 1)


def strands(
    rng: np.random.Generator, roots: np.ndarray, direction: np.ndarray, length: np.ndarray, curl: float, width: float
) -> list[Polygon]:
    """Tapered curved strokes from `roots` (N, 2) along angles `direction` (N,) of `length` (N,)."""
    count, knots = len(roots), 10
    turn = np.cumsum(rng.normal(size=(count, 1)) * curl / knots + rng.normal(size=(count, knots)) * curl * 0.12, axis=1)
    angle = direction[:, None] + turn
    steps = np.stack([np.cos(angle), np.sin(angle)], 2) * (length[:, None, None] / knots)
    points = np.concatenate([roots[:, None], roots[:, None] + np.cumsum(steps, 1)], axis=1)
    taper = np.linspace(1, 0.15, knots + 1) * width * rng.uniform(0.5, 1.5, (count, 1))
    return strokes(points, taper)


def hair(rng: np.random.Generator) -> list[Polygon]:
    """Head and shoulders with loose strands."""
    head = ellipse(0, -0.25, rng.uniform(0.28, 0.36), rng.uniform(0.36, 0.46))
    shoulders = np.array([(-0.75, 1.0), (-0.6, 0.45), (-0.15, 0.25), (0.15, 0.25), (0.6, 0.45), (0.75, 1.0)])
    count = int(rng.integers(120, 450))
    angle = rng.uniform(-np.pi * 1.15, np.pi * 0.15, count)
    roots = np.stack([0.31 * np.cos(angle), -0.25 + 0.4 * np.sin(angle)], 1)
    fall = rng.uniform(0, 1.2) * np.sign(np.cos(angle))
    length = rng.gamma(2.0, rng.uniform(0.06, 0.22), count).clip(0.03, 0.9)
    return [
        (head, 1.0),
        (shoulders, 1.0),
        *strands(rng, roots, angle + fall, length, rng.uniform(0.3, 2.5), rng.uniform(0.004, 0.012)),
    ]


def fur(rng: np.random.Generator) -> list[Polygon]:
    """Body with short dense strands along its outline."""
    body = blob(rng, rng.uniform(0.45, 0.65), 0.2)
    count = int(rng.integers(500, 1500))
    chosen = rng.integers(len(body), size=count)
    roots = body[chosen] * rng.uniform(0.9, 1.0, (count, 1))
    outward = np.arctan2(roots[:, 1], roots[:, 0]) + rng.normal() * 0.5 + rng.normal(size=count) * 0.3
    length = rng.gamma(3.0, rng.uniform(0.015, 0.05), count)
    return [(body, 1.0), *strands(rng, roots, outward, length, rng.uniform(0.2, 1.0), rng.uniform(0.005, 0.014))]


def leaves(rng: np.random.Generator) -> list[Polygon]:
    """Branching twigs with leaves."""
    found: list[Polygon] = []
    spread, leaf = rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.13)
    pending = [(0.0, 0.95, -np.pi / 2 + rng.normal() * 0.15, rng.uniform(0.4, 0.6), rng.uniform(0.02, 0.06), 0)]
    while pending:
        x, y, angle, length, width, depth = pending.pop()
        end = angle + rng.normal() * 0.3
        middle = (x + np.cos(angle) * length / 2, y + np.sin(angle) * length / 2)
        tip = (middle[0] + np.cos(end) * length / 2, middle[1] + np.sin(end) * length / 2)
        found += strokes(np.array([[(x, y), middle, tip]]), np.array([[width, width * 0.8, width * 0.6]]))
        if depth >= 2:
            for _ in range(int(rng.integers(1, 5))):
                at, tilt, size = rng.random(), end + rng.normal() * 1.2, leaf * rng.uniform(0.6, 1.4)
                px, py = x + (tip[0] - x) * at, y + (tip[1] - y) * at
                found.append((ellipse(px + np.cos(tilt) * size, py + np.sin(tilt) * size, size, size * 0.35, tilt, 20), 1.0))
        if depth < 5 and len(found) < 600:
            for side in rng.choice((-1, 1, 0.2), int(rng.integers(2, 4)), replace=False):
                pending.append(
                    (*tip, end + side * spread, length * rng.uniform(0.55, 0.85), max(width * 0.6, 0.006), depth + 1)
                )
    return found


def wires(rng: np.random.Generator) -> list[Polygon]:
    """Cables and thin rods with a solid part."""
    t = np.linspace(0, 1, 50)[:, None]
    found = []
    for _ in range(int(rng.integers(3, 12))):
        a, b, c, d = rng.uniform(-0.95, 0.95, (4, 2))
        curve = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
        found += strokes(curve[None], rng.uniform(0.005, 0.05))
    return [*found, (blob(rng, rng.uniform(0.12, 0.3)) + rng.uniform(-0.5, 0.5, 2), 1.0)]


def lattice(rng: np.random.Generator, reach: float = 1.5) -> list[Polygon]:
    """Parallel bars in one or two directions across the square."""
    found = []
    angle, spacing = rng.uniform(0, np.pi), rng.uniform(0.05, 0.22)
    for turn in (0.0, rng.uniform(0.8, 2.3))[: int(rng.integers(1, 3))]:
        along = np.array([np.cos(angle + turn), np.sin(angle + turn)])
        shift = np.arange(-reach, reach, spacing)[:, None, None] * np.array([-along[1], along[0]])
        found += strokes(shift + np.array([-reach, reach])[None, :, None] * along, spacing * rng.uniform(0.08, 0.35))
    return found


def mesh(rng: np.random.Generator) -> list[Polygon]:
    """Net or grid in a frame: the lattice is clipped by an outline that is filled with 0 outside."""
    frame = blob(rng, rng.uniform(0.6, 0.8), 0.15)
    corners = np.array([(-3, -3), (3, -3), (3, 3), (-3, 3), (-3, -3)])
    outside = np.concatenate([corners, frame[:1], frame[::-1], corners[:1]])
    return [*lattice(rng), (outside, 0.0), *strokes(np.concatenate([frame, frame[:1]])[None], rng.uniform(0.02, 0.09))]


def cage(rng: np.random.Generator) -> list[Polygon]:
    """Dome of curved bars with hoops, sometimes with a solid body inside."""
    height, bars, bar = np.linspace(0, 1, 40), int(rng.integers(6, 18)), rng.uniform(0.008, 0.025)
    profile = rng.uniform(0.45, 0.65) * np.minimum(1, np.sqrt(height / rng.uniform(0.2, 0.5)))
    x = np.linspace(-1, 1, bars)[:, None] * profile
    y = np.broadcast_to(height * 1.6 - 0.8, x.shape)
    hoops = rng.choice(np.arange(6, 40), int(rng.integers(2, 5)), replace=False)
    across = np.linspace(-1, 1, 20)
    found = strokes(np.stack([x, y], 2), bar)
    for hoop in (*hoops, 39):
        bend = rng.uniform(0, 0.06) * (1 - across**2)
        found += strokes(np.stack([across * profile[hoop], height[hoop] * 1.6 - 0.8 + bend], 1)[None], bar * 1.6)
    return found + ([(blob(rng, 0.22) + np.array([0, 0.3]), 1.0)] if rng.random() < 0.5 else [])


def spokes(rng: np.random.Generator) -> list[Polygon]:
    """Wheels with hub, rim and spokes."""
    found: list[Polygon] = []
    count, radius = int(rng.integers(1, 3)), rng.uniform(0.35, 0.5)
    for index in range(count):
        x = (index - (count - 1) / 2) * 1.0
        radius = radius if count == 2 else radius * 1.6
        angle = rng.uniform(0, 6) + np.arange(n := int(rng.integers(5, 32))) * 2 * np.pi / n
        ends = np.stack([np.cos(angle), np.sin(angle)], 1) * radius
        found += strokes(np.stack([ends * 0.1, ends], 1) + np.array([x, 0.2]), rng.uniform(0.006, 0.04))
        found += ring(x, 0.2, radius, radius, rng.uniform(0.03, 0.1))
        found.append((ellipse(x, 0.2, radius * 0.14, radius * 0.14), 1.0))
    if count == 2:
        found += strokes(np.array([[(-0.5, 0.2), (-0.2, -0.4), (0.25, -0.4), (0.5, 0.2)]]), rng.uniform(0.02, 0.06))
    return found


def lace(rng: np.random.Generator) -> list[Polygon]:
    """Cloth with rings of small holes."""
    found: list[Polygon] = [(blob(rng, rng.uniform(0.65, 0.85), 0.04), 1.0)]
    fold = int(rng.integers(8, 24))
    for radius in np.linspace(0.15, 0.7, int(rng.integers(3, 7))):
        size = rng.uniform(0.2, 0.42) * min(0.12, 2 * np.pi * radius / fold)
        for angle in np.arange(fold) * 2 * np.pi / fold + rng.uniform(0, 1):
            hole = ellipse(radius * np.cos(angle), radius * np.sin(angle), size * rng.uniform(1, 1.6), size, angle, 16)
            found.append((hole, 0.0))
    return found


def chair(rng: np.random.Generator) -> list[Polygon]:
    """Seat, legs, rungs and a back with spindles."""
    leg, width = rng.uniform(0.02, 0.07), rng.uniform(0.35, 0.55)
    seat, skew = rng.uniform(0.05, 0.2), rng.uniform(-0.15, 0.15)
    top = rng.uniform(-0.85, -0.5)
    found: list[Polygon] = [
        (np.array([(-width, seat), (width, seat), (width + skew, seat + 0.12), (-width + skew, seat + 0.12)]), 1.0)
    ]
    for x, bottom in ((-width, 0.75), (width, 0.75), (-width + skew, 0.95), (width + skew, 0.95)):
        found += strokes(np.array([[(x, seat), (x + rng.normal() * 0.03, bottom)]]), leg)
    for y in rng.uniform(seat + 0.25, 0.8, int(rng.integers(0, 3))):
        found += strokes(np.array([[(-width, y), (width, y)]]), leg * 0.7)
    for x in np.linspace(-width, width, int(rng.integers(3, 12))):
        found += strokes(np.array([[(x, seat), (x * rng.uniform(0.98, 1.02), top)]]), leg * 0.5)
    for x in (-width, width):
        found += strokes(np.array([[(x, seat), (x, top - 0.03)]]), leg * 1.2)
    return [*found, *strokes(np.array([[(-width, top), (0, top - 0.05), (width, top)]]), leg * rng.uniform(1, 3))]


def spectacles(rng: np.random.Generator) -> list[Polygon]:
    """Two rims with nearly transparent lenses, a bridge and temples."""
    a, b, rim, lens = (
        rng.uniform(0.28, 0.38),
        rng.uniform(0.2, 0.34),
        rng.uniform(0.015, 0.05),
        rng.choice((0.0, 0.0, 0.08, 0.2, 0.6)),
    )
    found: list[Polygon] = []
    for side in (-1, 1):
        found += [(ellipse(side * 0.46, 0, a, b), float(lens)), *ring(side * 0.46, 0, a, b, rim)]
        found += strokes(np.array([[(side * (0.46 + a), 0), (side * 0.98, -0.15), (side * rng.uniform(0.5, 0.9), -0.5)]]), rim)
    return [*found, *strokes(np.array([[(-0.46 + a, 0), (0, -0.06), (0.46 - a, 0)]]), rim)]


def glass(rng: np.random.Generator) -> list[Polygon]:
    """Vessel with thin walls, sometimes with a liquid or a stem."""
    y = np.linspace(-0.8, 0.8, 40)
    order = np.arange(1, 4)
    half = 0.35 + (rng.normal(size=3)[:, None] * 0.08 * np.sin(order[:, None] * (y + rng.uniform(0, 3)) * 2)).sum(0)
    half = half.clip(0.06, 0.7)
    wall, body = rng.uniform(0.015, 0.05), rng.uniform(0.05, 0.35)
    outline = np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]])
    found: list[Polygon] = [(outline, body)]
    if rng.random() < 0.6:
        level = int(rng.integers(8, 32))
        liquid = np.concatenate([np.stack([half, y], 1)[level:], np.stack([-half, y], 1)[level:][::-1]])
        found.append((liquid, rng.uniform(0.3, 0.9)))
    for side in (-1, 1):
        found += strokes(np.stack([side * half, y], 1)[None], wall, rng.uniform(0.4, 0.9))
    found += strokes(np.array([[(-half[-1], 0.8), (half[-1], 0.8)]]), wall * 2, rng.uniform(0.6, 1.0))
    highlight = np.stack([half * rng.uniform(-0.8, 0.8), y], 1)[5:20]
    return [*found, *strokes(highlight[None], rng.uniform(0.02, 0.08), rng.uniform(0.5, 0.9))]


def sign(rng: np.random.Generator) -> list[Polygon]:
    """Panel on up to two posts; `render` may show a picture on it."""
    half, height, post = rng.uniform(0.3, 0.75), rng.uniform(0.25, 0.6), rng.uniform(0.03, 0.12)
    middle = rng.uniform(-0.5, -0.1)
    corners = int(rng.choice((3, 4, 4, 4, 8, 60)))
    turn = np.pi / 4 if corners == 4 else np.pi / 2 + np.pi / corners
    angle = turn + np.arange(corners) * 2 * np.pi / corners
    panel = np.stack([np.cos(angle), np.sin(angle)], 1)
    panel = panel / np.abs(panel).max(0) * (half, height) + (0, middle)
    found: list[Polygon] = []
    for x in ((), (0.0,), (-0.7 * half, 0.7 * half))[int(rng.integers(3))]:
        found += strokes(np.array([[(x, middle), (x, 0.95)]]), post)
    return [*found, (panel, 1.0)]


def smoke(rng: np.random.Generator) -> list[Polygon]:
    """Plume; `render` multiplies its alpha by noise."""
    t = np.linspace(0, 1, 30)
    x = np.cumsum(rng.normal(size=30)) * 0.04
    return strokes(np.stack([x, 0.9 - 1.7 * t], 1)[None], (0.1 + t * rng.uniform(0.4, 1.0))[None], rng.uniform(0.5, 1.0))


#: Kinds of subjects, by name.
KINDS: dict[str, Callable[[np.random.Generator], list[Polygon]]] = {
    kind.__name__: kind for kind in (hair, fur, leaves, wires, mesh, cage, spokes, lace, chair, spectacles, sign, glass, smoke)
}
