"""Build the demo's scene: a relay baton spins above a mirror floor, once around in 24 frames.

Run with bpy: scene.py FILE.
"""

import math
import sys

import bpy

FRAMES = 24
WIDTH, HEIGHT = 320, 180
SAMPLES = 10


def material(
    name: str, colour: tuple[float, float, float], *, metallic: float, roughness: float
) -> "bpy.types.Material":
    """Return a new surface."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    inputs = made.node_tree.nodes["Principled BSDF"].inputs
    inputs["Base Color"].default_value = (*colour, 1.0)
    inputs["Metallic"].default_value = metallic
    inputs["Roughness"].default_value = roughness
    return made


def tube(
    name: str, radius: float, length: float, along: float, surface: "bpy.types.Material"
) -> "bpy.types.Object":
    """Return a cylinder with rounded edges whose axis is X, `along` from the middle."""
    bpy.ops.mesh.primitive_cylinder_add(
        vertices=64,
        radius=radius,
        depth=length,
        location=(along, 0, 0),
        rotation=(0, math.pi / 2, 0),
    )
    made = bpy.context.object
    made.name = name
    bevel = made.modifiers.new("edge", "BEVEL")
    bevel.width, bevel.segments = 0.04, 3
    made.data.materials.append(surface)
    bpy.ops.object.shade_smooth()
    return made


def baton() -> "bpy.types.Object":
    """Return the baton: an orange tube with two steel caps and a dark grip, under one empty."""
    orange = material("orange", (0.95, 0.25, 0.02), metallic=0.1, roughness=0.25)
    steel = material("steel", (0.8, 0.82, 0.85), metallic=1.0, roughness=0.15)
    grip = material("grip", (0.02, 0.02, 0.025), metallic=0.0, roughness=0.6)
    root = bpy.data.objects.new("baton", None)
    bpy.context.scene.collection.objects.link(root)
    parts = [
        tube("body", 0.32, 3.0, 0.0, orange),
        tube("grip", 0.335, 0.9, 0.0, grip),
        tube("cap left", 0.35, 0.25, -1.55, steel),
        tube("cap right", 0.35, 0.25, 1.55, steel),
    ]
    for part in parts:
        part.parent = root
    root.location = (0, 0, 1.15)
    return root


def animate(thing: "bpy.types.Object") -> None:
    """Turn it once around, and back where it began."""
    for frame, angle in ((1, 0.0), (FRAMES + 1, 2 * math.pi)):
        thing.rotation_euler = (0.35, 0.25, angle)
        thing.keyframe_insert("rotation_euler", frame=frame)
    for curve in thing.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def stage() -> None:
    """Add floor, lights, sky and camera."""
    bpy.ops.mesh.primitive_plane_add(size=40)
    floor = material("floor", (0.03, 0.05, 0.09), metallic=0.6, roughness=0.18)
    bpy.context.object.data.materials.append(floor)
    for location, energy, size in (
        ((3, -4, 5), 900, 3),
        ((-5, -2, 3), 350, 2),
        ((0, 5, 4), 500, 4),
    ):
        bpy.ops.object.light_add(type="AREA", location=location)
        light = bpy.context.object
        light.data.energy, light.data.size = energy, size
        light.rotation_euler = light.location.to_track_quat("Z", "Y").to_euler()
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.10, 0.16, 0.28, 1)
    bpy.context.scene.world = world
    bpy.ops.object.camera_add(location=(0, -6.2, 2.3), rotation=(math.radians(79), 0, 0))
    bpy.context.scene.camera = bpy.context.object


def main(path: str) -> None:
    """Save the scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stage()
    animate(baton())
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_denoising = True
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.wm.save_as_mainfile(filepath=path)


if __name__ == "__main__":
    main(sys.argv[1])
