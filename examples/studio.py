"""Scene, camera, lights and background, and the two renders of a scene: picture and matte."""

import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector
from PIL import Image

GLASS = "glass"  # custom property of transparent materials
STAGE = "stage"  # custom property of background objects: sweep, table, wall, lights


def new_scene(width, height, exposure=0.0, world=(0.05, 0.05, 0.055), strength=1.0):
    """Create an empty scene with a filmic view transform and uniform, dim ambient light."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = exposure
    scene.cycles_curves.shape = "RIBBONS"
    scene.cycles.max_bounces, scene.cycles.transmission_bounces = 8, 8
    scene.cycles.diffuse_bounces, scene.cycles.glossy_bounces = 2, 3
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 4.0
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    background = scene.world.node_tree.nodes["Background"]
    background.inputs[0].default_value = (*world, 1)
    background.inputs[1].default_value = strength
    return scene


def add(name, data, material=None, stage=False):
    """Add a mesh, curve, light or camera to the scene."""
    obj = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(obj)
    if material is not None:
        data.materials.append(material)
    obj[STAGE] = stage
    return obj


def pose(location, turn=(0, 0, 0)):
    """Matrix of a rotation by Euler angles in radians, followed by a translation."""
    return Matrix.Translation(location) @ Euler(turn).to_matrix().to_4x4()


def aim(obj, target):
    """Rotate an object so that its -z axis points at `target`."""
    obj.rotation_euler = (Vector(target) - obj.location).to_track_quat("-Z", "Y").to_euler()


def camera(location, target, lens=85, fstop=None, focus=None):
    """Add a camera at `location` that points at `target`; `fstop` enables depth of field with the focus at `focus`."""
    data = bpy.data.cameras.new("camera")
    obj = add("camera", data, stage=True)
    obj.location = location
    aim(obj, target)
    data.lens = lens
    if fstop is not None:
        data.dof.use_dof = True
        data.dof.aperture_fstop = fstop
        data.dof.focus_distance = (Vector(focus or target) - obj.location).length
    bpy.context.scene.camera = obj


def softbox(location, target, size, power, color=(1, 1, 1)):
    """Add an area light of `size` (width, height) that is invisible to the camera but not in reflections."""
    data = bpy.data.lights.new("softbox", "AREA")
    data.shape, data.size, data.size_y = "RECTANGLE", *size
    data.energy, data.color = power, color
    obj = add("softbox", data, stage=True)
    obj.location = location
    obj.visible_camera = False
    aim(obj, target)
    return obj


def sweep(material, depth=4.0, radius=3.0, z=0.0):
    """Add a floor that curves up into a wall without an edge, as a seamless paper background."""
    turn = np.linspace(0, math.pi / 2, 24)
    y = np.concatenate([[-40.0], depth + radius * np.sin(turn), [depth + radius]])
    h = np.concatenate([[0.0], radius - radius * np.cos(turn), [40.0]]) + z
    verts = [(x, a, b) for x in (-40.0, 40.0) for a, b in zip(y, h, strict=True)]
    n = len(y)
    mesh = bpy.data.meshes.new("sweep")
    mesh.from_pydata(verts, [], [(i, n + i, n + i + 1, i + 1) for i in range(n - 1)])
    mesh.shade_smooth()
    return add("sweep", mesh, material, stage=True)


def plane(material, center, size, normal="Z"):
    """Add a background rectangle: a table top (`Z`) or a wall (`Y`)."""
    u, v = size[0] / 2, size[1] / 2
    corners = [(-u, -v), (u, -v), (u, v), (-u, v)]
    flat = [(a, b, 0) if normal == "Z" else (a, 0, b) for a, b in corners]
    mesh = bpy.data.meshes.new("plane")
    mesh.from_pydata([tuple(np.add(center, p)) for p in flat], [], [(0, 1, 2, 3)])
    rest = mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT")  # grain along x
    rest.data.foreach_set("vector", np.array(flat, np.float32)[:, [1, 2, 0]].ravel())
    return add("plane", mesh, material, stage=True)


def _render(path, samples, denoise):
    scene = bpy.context.scene
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = denoise
    scene.cycles.adaptive_threshold, scene.cycles.adaptive_min_samples = 0.06, 12
    scene.cycles.use_denoising = denoise
    scene.cycles.seed = 1
    scene.cycles.use_light_tree = False
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def render_picture(path, samples, scratch, quality=92):
    """Path trace the whole scene to a JPEG file."""
    scene = bpy.context.scene
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.film_transparent = False
    _render(Path(scratch) / "picture.png", samples, denoise=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(Path(scratch) / "picture.png").convert("RGB").save(path, quality=quality, optimize=True)


def render_matte(path, samples, scratch, glass=False):
    """Render the subject alone on transparent film with the same camera, and save the alpha channel.

    Without glass alpha is the coverage, which needs no bounces. With glass the film is visible through refracting surfaces, and
    alpha is one minus the mean fraction of transmitted light.
    """
    scene = bpy.context.scene
    for obj in scene.objects:
        if obj.get(STAGE) and obj.type != "CAMERA":
            obj.is_holdout = not glass  # parts below the floor are not in the matte
            obj.hide_render = glass or obj.type == "LIGHT"
    black = bpy.data.materials.new("black")  # opaque parts need no shading
    black.use_nodes = True
    black.node_tree.nodes.clear()
    shade = black.node_tree.nodes.new("ShaderNodeEmission").outputs[0]
    black.node_tree.links.new(shade, black.node_tree.nodes.new("ShaderNodeOutputMaterial").inputs[0])
    for obj in scene.objects:
        if not obj.get(STAGE) and not (glass and obj.data.materials[0].get(GLASS)):
            obj.data.materials[0] = black
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.film_transparent = True
    scene.cycles.film_transparent_glass = glass
    scene.cycles.film_transparent_roughness = 0.3
    scene.cycles.diffuse_bounces = 0
    scene.cycles.max_bounces = scene.cycles.transmission_bounces = 16 if glass else 0
    _render(Path(scratch) / "matte.png", samples, denoise=False)
    alpha = np.asarray(Image.open(Path(scratch) / "matte.png"))[..., 3]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(alpha).save(path, optimize=True)
