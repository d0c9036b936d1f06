"""Render frames of a .blend file with bpy, by Blender's own arguments, in their order."""

import sys
from pathlib import Path

import bpy


def main(arguments: list[str]) -> int:
    """Carry out the arguments one by one, as Blender does; returns the exit code."""
    waiting = iter(arguments)
    scene = None
    for option in waiting:
        if option in ("-b", "--background"):
            bpy.ops.wm.open_mainfile(filepath=next(waiting))
            scene = bpy.context.scene
            continue
        if scene is None:
            print("the first argument must be -b FILE", file=sys.stderr)
            return 2
        if option in ("-o", "--render-output"):
            scene.render.filepath = next(waiting)
        elif option in ("-F", "--render-format"):
            scene.render.image_settings.file_format = next(waiting)
        elif option in ("-E", "--engine"):
            scene.render.engine = next(waiting)
        elif option in ("-s", "--frame-start"):
            scene.frame_start = int(next(waiting))
        elif option in ("-e", "--frame-end"):
            scene.frame_end = int(next(waiting))
        elif option in ("-a", "--render-anim"):
            render(scene)
        else:
            print(f"unknown argument: {option}", file=sys.stderr)
            return 2
    return 0


def render(scene: "bpy.types.Scene") -> None:
    """Render every frame of the scene's range to its own file."""
    pattern = scene.render.filepath
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        scene.render.filepath = _numbered(pattern, frame)
        bpy.ops.render.render(write_still=True)
        print(f"frame {frame}: {Path(scene.render.filepath).name}", flush=True)
    scene.render.filepath = pattern


def _numbered(pattern: str, frame: int) -> str:
    hashes = len(pattern) - len(pattern.rstrip("#"))
    return f"{pattern.rstrip('#')}{str(frame).zfill(hashes)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
