"""Materials: one function for each kind, which returns a node material."""

import bpy
from studio import GLASS


def principled(color, roughness=0.5, **inputs):
    """Principled material; further inputs have their names in Blender with underscores, such as `Coat_Weight`."""
    mat = bpy.data.materials.new("material")
    mat.use_nodes = True
    shader = mat.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1)
    shader.inputs["Roughness"].default_value = roughness
    for name, value in inputs.items():
        shader.inputs[name.replace("_", " ")].default_value = value
    return mat


class Graph:
    """Helper that connects nodes to the principled shader of a material."""

    def __init__(self, mat, attribute="rest"):
        self.nodes, self.links = mat.node_tree.nodes, mat.node_tree.links
        self.shader = self.nodes.get("Principled BSDF")
        source = self.node("ShaderNodeAttribute")
        source.attribute_name = attribute
        self.position = source.outputs["Vector"]

    def node(self, kind, inputs=None, **settings):
        n = self.nodes.new(kind)
        for key, value in settings.items():
            setattr(n, key, value)
        for key, value in (inputs or {}).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, n.inputs[key])
            else:
                n.inputs[key].default_value = value
        return n

    def stretch(self, scale):
        return self.node("ShaderNodeMapping", {"Vector": self.position, "Scale": scale}).outputs[0]

    def noise(self, scale, detail=4.0, vector=None, distortion=0.0, rough=0.5):
        inputs = {"Vector": vector or self.position, "Scale": scale, "Detail": detail, "Distortion": distortion}
        return self.node("ShaderNodeTexNoise", inputs | {"Roughness": rough}).outputs["Fac"]

    def cells(self, scale, feature="F1", vector=None):
        inputs = {"Vector": vector or self.position, "Scale": scale}
        return self.node("ShaderNodeTexVoronoi", inputs, feature=feature).outputs["Distance"]

    def ramp(self, fac, stops):
        """Color ramp with colors or gray levels at positions: [(0.2, (r, g, b)), ...]."""
        n = self.node("ShaderNodeValToRGB", {"Fac": fac})
        while len(n.color_ramp.elements) < len(stops):
            n.color_ramp.elements.new(1.0)
        for element, (at, value) in zip(n.color_ramp.elements, stops, strict=True):
            element.position = at
            element.color = (value,) * 3 + (1,) if isinstance(value, float | int) else (*value, 1)
        return n.outputs["Color"]

    def mix(self, fac, a, b, blend="MIX"):
        n = self.node("ShaderNodeMix", data_type="RGBA", blend_type=blend)
        for socket, value in ((n.inputs[0], fac), (n.inputs[6], a), (n.inputs[7], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, socket)
            else:
                socket.default_value = (*value, 1) if isinstance(value, tuple) else value
        return n.outputs[2]

    def axis(self, which):
        return self.node("ShaderNodeSeparateXYZ", {"Vector": self.position}).outputs[which]

    def span(self, value, low, high):
        """Map `value` linearly so that `low` becomes 0 and `high` becomes 1."""
        return self.node("ShaderNodeMapRange", {"Value": value, "From Min": low, "From Max": high}).outputs["Result"]

    def set(self, name, value):
        self.links.new(value, self.shader.inputs[name])

    def bump(self, height, strength, distance=0.02):
        n = self.node("ShaderNodeBump", {"Height": height, "Strength": strength, "Distance": distance})
        self.set("Normal", n.outputs[0])


def paper(color):
    """Matte studio background."""
    return principled(color, 0.9, Specular_IOR_Level=0.15)


def wood(light, dark, scale=1.0, roughness=0.38):
    """Wood with the grain along the z axis of the rest position."""
    mat = principled(light, roughness)
    g = Graph(mat)
    rings = g.noise(7 * scale, 6, g.stretch((1, 1, 0.07)), 0.8, 0.6)
    pores = g.noise(60 * scale, 3, g.stretch((1, 1, 0.04)))
    mid = tuple((a + b) / 2 for a, b in zip(light, dark, strict=True))
    color = g.ramp(rings, [(0.3, dark), (0.48, mid), (0.62, light)])
    fine = g.ramp(pores, [(0.35, 0.55), (0.5, 1.0)])
    g.set("Base Color", g.mix(0.7, color, fine, "MULTIPLY"))
    g.bump(pores, 0.12, 0.01)
    return mat


def leather(color, dark, grain=60.0, roughness=0.42):
    """Leather: pebbled grain and worn tones."""
    mat = principled(color, roughness, Specular_IOR_Level=0.5)
    g = Graph(mat)
    tone = g.noise(2.2, 5)
    g.set("Base Color", g.mix(g.ramp(tone, [(0.35, 0.0), (0.7, 1.0)]), dark, color))
    pebbles = g.cells(grain, "SMOOTH_F1")
    g.set("Roughness", g.ramp(g.noise(9, 4), [(0.3, roughness - 0.08), (0.7, roughness + 0.12)]))
    g.bump(pebbles, 0.35, 0.01)
    return mat


def metal(color, roughness=0.22):
    """Metal with faint brushing."""
    mat = principled(color, roughness, Metallic=1.0)
    g = Graph(mat)
    g.set("Roughness", g.ramp(g.noise(14, 4), [(0.3, roughness * 0.8), (0.7, roughness * 1.3)]))
    return mat


def glaze(color, deep, clay, foot=0.1, speckle=38.0):
    """Glazed stoneware with iron speckles, and an unglazed foot below the height `foot`."""
    mat = principled(color, 0.16, Coat_Weight=0.4, Coat_Roughness=0.06)
    g = Graph(mat)
    pool = g.ramp(g.noise(2.4, 5, distortion=0.6), [(0.35, 0.0), (0.68, 1.0)])
    base = g.mix(pool, deep, color)
    spots = g.ramp(g.cells(speckle), [(0.1, 1.0), (0.17, 0.0)])
    seldom = g.ramp(g.noise(11, 2), [(0.5, 0.0), (0.58, 0.85)])
    few = g.mix(1.0, spots, seldom, "MULTIPLY")
    base = g.mix(few, base, (0.05, 0.03, 0.02))
    wobble = g.node("ShaderNodeMath", {0: g.noise(3, 2), 1: 0.09}, operation="MULTIPLY").outputs[0]
    height = g.node("ShaderNodeMath", {0: g.axis(2), 1: wobble}, operation="SUBTRACT").outputs[0]
    glazed = g.span(height, foot, foot + 0.012)
    g.set("Base Color", g.mix(glazed, clay, base))
    g.set("Roughness", g.ramp(glazed, [(0.0, 0.85), (1.0, 0.14)]))
    g.set("Coat Weight", g.ramp(glazed, [(0.0, 0.0), (1.0, 0.4)]))
    g.bump(g.noise(5, 3), 0.08, 0.05)
    return mat


def fabric(color, dark, scale=90.0, roughness=0.9):
    """Woven cloth with sheen."""
    mat = principled(color, roughness, Sheen_Weight=0.35, Sheen_Roughness=0.4, Specular_IOR_Level=0.2)
    g = Graph(mat)
    weave = g.noise(scale, 2, g.stretch((1, 1, 1.6)))
    g.set("Base Color", g.mix(weave, dark, color))
    g.bump(weave, 0.3, 0.01)
    return mat


def glass(color, roughness=0.0):
    """Tinted glass; the tint is applied at every surface that a ray crosses."""
    mat = principled(color, roughness, Transmission_Weight=1.0, IOR=1.47)
    mat[GLASS] = True
    return mat


def hair(color, vary=0.5, roughness=0.35):
    """Hair or fur whose tone varies between strands and lightens toward the tip."""
    mat = principled(color, roughness, Specular_IOR_Level=0.35)
    g = Graph(mat)
    info = g.node("ShaderNodeHairInfo")
    dark = tuple(c * (1 - vary) for c in color)
    light = tuple(min(1.0, c * (1 + vary)) for c in color)
    tone = g.mix(info.outputs["Random"], dark, color)
    g.set("Base Color", g.mix(g.ramp(info.outputs["Intercept"], [(0.0, 0.0), (1.0, 0.8)]), tone, light))
    return mat
