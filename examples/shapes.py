"""Geometry: lathed, swept and lofted meshes, solids from distance fields, and strands of hair."""

import bmesh
import bpy
import numpy as np


def smooth(points, n=64, closed=False):
    """Sample a Catmull-Rom spline through `points` (k, d) at `n` points: float (n, d)."""
    p = np.asarray(points, float)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    spans = len(p) - 3
    t = np.linspace(0, spans, n, endpoint=not closed)
    i = np.minimum(t.astype(int), spans - 1)
    f = (t - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def mesh(verts, faces, rest=None, sharp=None):
    """Create a smooth-shaded mesh; `rest` becomes the attribute that grain textures read."""
    data = bpy.data.meshes.new("mesh")
    data.from_pydata(np.asarray(verts, float).tolist(), [], faces)
    data.shade_smooth()
    if sharp is not None:
        data.set_sharp_from_angle(angle=np.radians(sharp))
    layer = data.attributes.new("rest", "FLOAT_VECTOR", "POINT")
    layer.data.foreach_set("vector", np.asarray(verts if rest is None else rest, np.float32).ravel())
    data.validate()
    return data


def grid_faces(rows, cols, wrap_rows=False, wrap_cols=True, caps=False):
    """Quads of a (rows, cols) grid of vertices; caps close the first and the last row."""
    i, j = np.meshgrid(np.arange(rows if wrap_rows else rows - 1), np.arange(cols if wrap_cols else cols - 1), indexing="ij")
    i, j = i.ravel(), j.ravel()
    k, m = (i + 1) % rows, (j + 1) % cols
    faces = np.stack([i * cols + j, i * cols + m, k * cols + m, k * cols + j], 1).tolist()
    if caps:
        faces += [list(range(cols))[::-1], list(range((rows - 1) * cols, rows * cols))]
    return faces


def lathe(profile, n=96, segments=96, spline=True, sharp=None):
    """Rotate a profile of (radius, height) about the z axis; ends that are off the axis are capped."""
    p = smooth(profile, n) if spline else np.asarray(profile, float)
    a = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    r = np.maximum(p[:, 0], 1e-4)
    ring = np.stack([r[:, None] * np.cos(a), r[:, None] * np.sin(a), np.repeat(p[:, 1:2], segments, 1)], -1)
    return mesh(ring.reshape(-1, 3), grid_faces(len(p), segments, caps=True), sharp=sharp)


def frames(path, closed=False, up=None):
    """Tangent, normal and binormal along a path, without twist, or with the normal toward `up`."""
    t = np.gradient(path, axis=0) if not closed else np.roll(path, -1, 0) - np.roll(path, 1, 0)
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    n = np.empty_like(t)
    v = np.eye(3)[np.argmin(np.abs(t[0]))] if up is None else np.asarray(up, float)
    for k in range(len(t)):
        v = v if up is None else np.asarray(up, float)
        v = v - t[k] * (v @ t[k])
        v = v / np.linalg.norm(v)
        n[k] = v
    return t, n, np.cross(t, n)


def tube(path, radius, segments=20, closed=False, up=None, power=2.0, n=None):
    """Sweep a superellipse along a path; `radius` is a number or (a, b) on normal and binormal, for all or for each point."""
    p = np.asarray(path, float) if n is None else smooth(path, n, closed)
    r = np.asarray(radius, float)
    if r.ndim == 1 and len(r) != 2:  # one radius a point
        r = np.repeat(r[:, None], 2, 1)
    r = np.broadcast_to(r, (len(p), 2))
    _, normal, binormal = frames(p, closed, up)
    a = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    c, s = np.cos(a), np.sin(a)
    c, s = np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)
    u, v = r[:, :1] * c, r[:, 1:] * s
    verts = p[:, None] + u[..., None] * normal[:, None] + v[..., None] * binormal[:, None]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    rest = np.stack([u + p[0, 0], v + p[0, 1], np.repeat(length[:, None], segments, 1)], -1)
    faces = grid_faces(len(p), segments, wrap_rows=closed, caps=not closed)
    return mesh(verts.reshape(-1, 3), faces, rest.reshape(-1, 3), sharp=50)


def loft(sections):
    """Skin an array (rows, cols, 3) of closed sections and cap both ends."""
    s = np.asarray(sections, float)
    return mesh(s.reshape(-1, 3), grid_faces(*s.shape[:2], caps=True))


def taper(values, n):
    """Interpolate `values` smoothly at `n` points of a tube."""
    return smooth(np.asarray(values, float)[:, None], n)[:, 0]


def box(size, center=(0, 0, 0), bevel=0.02):
    """A box with rounded edges, as a mesh."""
    bm = bmesh.new()
    bmesh.ops.create_cube(bm, size=1)
    for v in bm.verts:
        v.co = [v.co[k] * size[k] + center[k] for k in range(3)]
    bmesh.ops.bevel(bm, geom=bm.edges[:], offset=bevel, segments=4, profile=0.5, affect="EDGES")
    data = bpy.data.meshes.new("box")
    bm.to_mesh(data)
    bm.free()
    verts = np.array([v.co[:] for v in data.vertices])
    return mesh(verts, [list(p.vertices) for p in data.polygons], sharp=40)


def solid(distance, low, high, step):
    """The surface of a signed distance function of points (..., 3), found by surface nets on a grid of `step`."""
    x, y, z = (np.arange(a, b, step) for a, b in zip(low, high, strict=True))
    f = np.empty((len(x), len(y), len(z)), np.float32)
    for k in range(len(x)):
        f[k] = distance(np.stack(np.broadcast_arrays(x[k], y[:, None], z[None, :]), -1))
    shape = np.array(f.shape) - 1
    corner = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
    inside = sum(f[i : shape[0] + i, j : shape[1] + j, k : shape[2] + k] < 0 for i, j, k in corner)
    cell = np.argwhere((inside > 0) & (inside < 8))
    index = np.full(shape, -1)
    index[tuple(cell.T)] = np.arange(len(cell))
    total, hits = np.zeros((len(cell), 3)), np.zeros((len(cell), 1))
    for c in corner:
        for axis in np.flatnonzero(c == 0):
            d = c + np.eye(3, dtype=int)[axis]
            fa, fb = f[tuple((cell + c).T)], f[tuple((cell + d).T)]
            cross = (fa < 0) != (fb < 0)
            at = c + np.where(cross, fa / np.where(cross, fa - fb, 1), 0)[:, None] * (d - c)
            total += at * cross[:, None]
            hits += cross[:, None]
    quads = []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        here, there = np.moveaxis(f, axis, 0)[:-1] < 0, np.moveaxis(f, axis, 0)[1:] < 0
        for enters, flip in ((here & ~there, 1), (~here & there, -1)):
            p = np.argwhere(np.moveaxis(enters, 0, axis))
            p = p[np.all(p >= u + v, 1) & np.all(p < shape, 1)]
            ring = np.stack([index[tuple((p - o).T)] for o in (0 * u, u, u + v, v)], 1)
            quads.append(ring[:, ::flip])
    verts = (cell + total / hits) * step + np.asarray(low)
    return mesh(verts, np.concatenate(quads).tolist())


def mirrored(p):
    """Mirror the points to x >= 0, for the distance function of a symmetric body."""
    return np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1)


def ellipsoid(p, center, radii, turn=0.0):
    """Approximate signed distance to an ellipsoid, rotated about the x axis by `turn` radians."""
    q = p - np.asarray(center)
    if turn:
        c, s = np.cos(turn), np.sin(turn)
        q = np.stack([q[..., 0], c * q[..., 1] + s * q[..., 2], c * q[..., 2] - s * q[..., 1]], -1)
    r = np.asarray(radii, float)
    k0 = np.linalg.norm(q / r, axis=-1)
    return k0 * (k0 - 1) / np.maximum(np.linalg.norm(q / r**2, axis=-1), 1e-6)


def capsule(p, a, b, ra, rb):
    """Signed distance to a round cone between two points."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    h = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(p - a - h[..., None] * (b - a), axis=-1) - (ra + h * (rb - ra))


def join(a, b, k=0.1):
    """Smooth union of two distance fields, rounded over about `k`."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return b + h * (a - b) - k * h * (1 - h)


def carve(a, b, k=0.05):
    """Smooth difference: `a` without `b`."""
    return -join(-a, b, k)


def fuse(target, parts, voxel):
    """Join overlapping parts into one mesh by remeshing, with smoothed joints."""
    with bpy.context.temp_override(active_object=target, selected_editable_objects=[target, *parts]):
        bpy.ops.object.join()
    target.modifiers.new("remesh", "REMESH").voxel_size = voxel
    soft = target.modifiers.new("soft", "SMOOTH")
    soft.factor, soft.iterations = 0.5, 10
    graph = bpy.context.evaluated_depsgraph_get()
    target.data = bpy.data.meshes.new_from_object(target.evaluated_get(graph))
    target.modifiers.clear()
    target.data.shade_smooth()
    rest = target.data.attributes.get("rest")
    if rest is not None:
        target.data.attributes.remove(rest)
    rest = target.data.attributes.new("rest", "FLOAT_VECTOR", "POINT")
    co = np.empty(len(target.data.vertices) * 3, np.float32)
    target.data.vertices.foreach_get("co", co)
    rest.data.foreach_set("vector", co)


def scatter(data, count, rng, keep=None):
    """Sample random points on a mesh and their normals; `keep` is a density in [0, 1] as a function of position."""
    data.calc_loop_triangles()
    v = np.empty(len(data.vertices) * 3, np.float32)
    data.vertices.foreach_get("co", v)
    n = np.empty(len(data.vertices) * 3, np.float32)
    data.vertices.foreach_get("normal", n)
    tri = np.empty(len(data.loop_triangles) * 3, np.int32)
    data.loop_triangles.foreach_get("vertices", tri)
    v, n, tri = v.reshape(-1, 3), n.reshape(-1, 3), tri.reshape(-1, 3)
    area = np.linalg.norm(np.cross(v[tri[:, 1]] - v[tri[:, 0]], v[tri[:, 2]] - v[tri[:, 0]]), axis=1)
    if keep is not None:
        area = area * keep(v[tri].mean(1))
    pick = tri[rng.choice(len(tri), count, p=area / area.sum())]
    w = rng.dirichlet((1, 1, 1), count)[..., None]
    normal = (n[pick] * w).sum(1)
    return (v[pick] * w).sum(1), normal / np.linalg.norm(normal, axis=1, keepdims=True)


def strands(points, root, tip=0.0):
    """Create hair curves from points (count, steps, 3), with a radius decreasing from `root` to `tip`."""
    count, steps, _ = points.shape
    data = bpy.data.hair_curves.new("strands")
    data.add_curves([steps] * count)
    data.position_data.foreach_set("vector", np.ascontiguousarray(points, np.float32).ravel())
    radius = np.tile(np.linspace(1, 0, steps) ** 0.7 * (root - tip) + tip, count).astype(np.float32)
    layer = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
    layer.data.foreach_set("value", radius)
    return data
