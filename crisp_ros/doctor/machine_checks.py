"""Checks of machine, packages and model that need no ROS."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from crisp_ros.doctor.findings import Finding, fine, note, problem
from crisp_ros.network.checkpoint import CheckpointError, load_model
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.pipeline import Estimator

_PYTHONS = ((3, 10), (3, 12))
_MEMORY = Path("/proc/meminfo")
_MEMORY_GIB = 4.0
_SHARED_MEMORY_MIB = 64.0
_SLOW_MS = 1000.0
# The optional modules map to the extra of the package and to their purpose.
_NEEDED = (
    "cv2",
    "fast_simplification",
    "numpy",
    "roma",
    "rosbags",
    "safetensors",
    "scipy",
    "trimesh",
    "rich",
)
_OPTIONAL = {
    "moderngl": ("render", "render recordings and training images"),
    "igl": ("train", "train models and add shapes to a library"),
    "matplotlib": ("figures", "draw figures and reports"),
    "rerun": ("view", "watch without RViz"),
}


def machine_findings() -> Iterator[Finding]:
    """Python, memory, packages, GPU and the headless renderer."""
    yield from _python()
    yield _memory()
    yield _shared_memory()
    yield from _packages()
    yield _gpu()
    yield _renderer()


def model_findings(checkpoint: Callable[[], Path], device: str) -> Iterator[Finding]:
    """Read the model and estimate a synthetic frame with it.

    Args:
        checkpoint: returns the path of the model file.
        device: "cpu", "cuda" or "cuda:N".
    """
    try:
        path = checkpoint()
        model = load_model(path, device)
    except (CheckpointError, OSError, ValueError) as error:
        yield problem("model", "file", str(error), "name a good one: --checkpoint FILE")
        return
    estimator = Estimator(model, device=device)
    shapes = len(model.library) if model.library is not None else 0
    yield fine("model", "file", f"{path.name}, version {estimator.model_version}, {shapes} shapes")
    frame = _sphere_frame()
    estimator.estimate(frame)
    start = time.perf_counter()
    result = estimator.estimate(frame)
    milliseconds = 1e3 * (time.perf_counter() - start)
    text = f"{milliseconds:.0f} ms for a synthetic frame of one object on {device}"
    if len(result.objects) != 1:
        reasons = ", ".join(r.reason for r in result.rejected)
        yield problem(
            "model", "estimation", f"no estimate: {reasons}", "is the file a CRISP model?"
        )
    elif milliseconds > _SLOW_MS:
        yield note("model", "estimation", text, "a GPU, or more cores, would make it faster")
    else:
        yield fine("model", "estimation", text)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        yield fine("machine", "Python", f"{version}, {sys.executable}")
    else:
        yield problem(
            "machine", "Python", version, "use Python 3.10 to 3.12; ROS 2 Jazzy's own is 3.12"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield fine("machine", "processor", f"{platform.machine()}, {cores} cores")


def _memory() -> Finding:
    lines = (line.split() for line in _MEMORY.read_text().splitlines())
    kib = {line[0]: int(line[1]) for line in lines}
    # Of the memory in use, caches of files are given back when others need it.
    available, total = (kib[name] / 2**20 for name in ("MemAvailable:", "MemTotal:"))
    text = f"{available:.1f} of {total:.1f} GiB available"
    if total < _MEMORY_GIB:
        return note("machine", "memory", text, f"at least {_MEMORY_GIB:g} GiB are advisable")
    return fine("machine", "memory", text)


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return note("machine", "shared memory", "no /dev/shm", "images go through UDP instead")
    free = shutil.disk_usage(folder).free / 2**20
    text = f"{free:.0f} MiB free in /dev/shm"
    if free < _SHARED_MEMORY_MIB:
        return problem(
            "machine",
            "shared memory",
            text,
            "images between processes need it: in Docker, --ipc=host or --shm-size=1g",
        )
    return fine("machine", "shared memory", text)


def _packages() -> Iterator[Finding]:
    missing = [name for name in _NEEDED if not _imports(name)]
    if missing:
        yield problem(
            "packages", "needed", f"cannot import {', '.join(missing)}", "pip install crisp_ros"
        )
    else:
        yield fine("packages", "needed", f"all there; torch {torch.__version__}")
    yield _open3d()
    for module, (extra, purpose) in _OPTIONAL.items():
        if not _imports(module):
            yield note(
                "packages",
                module,
                f"not there: cannot {purpose}",
                f"pip install 'crisp_ros[{extra}]'",
            )


def _open3d() -> Finding:
    try:
        open3d = importlib.import_module("open3d")
    except Exception as error:  # a missing library of the system, too
        return problem(
            "packages",
            "open3d",
            f"cannot be imported: {error}",
            "pip install open3d-cpu, or open3d; apt install libgl1 libegl1 libgomp1 libusb-1.0-0",
        )
    kind = "CUDA" if open3d._build_config["BUILD_CUDA_MODULE"] else "CPU"
    return fine("packages", "open3d", f"{open3d.__version__}, {kind} build")


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # a broken package raises what it likes
        return False
    return True


def _gpu() -> Finding:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return fine("machine", "GPU", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if shutil.which("nvidia-smi") is None:
        return fine("machine", "GPU", "none; everything runs on the processor")
    if torch.version.cuda is None:
        return problem(
            "machine",
            "GPU",
            f"there is one, but torch {torch.__version__} is built without CUDA",
            "install a CUDA build of torch, on a Jetson NVIDIA's",
        )
    driver = _driver()
    return problem(
        "machine",
        "GPU",
        f"torch is built for CUDA {torch.version.cuda} and cannot use the GPU (driver {driver})",
        "update the NVIDIA driver, or install a torch for an older CUDA",
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else "unknown"


def _renderer() -> Finding:
    if not _imports("moderngl"):
        return note("machine", "renderer", "moderngl is not there", "only needed to make images")
    import moderngl

    try:
        context = moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:  # whatever the driver says
        return note(
            "machine",
            "renderer",
            f"no headless OpenGL: {error}",
            "only needed to make images: install libegl1 and libgl1-mesa-dri",
        )
    name = context.info["GL_RENDERER"]
    context.release()
    return fine("machine", "renderer", name)


def _sphere_frame() -> Frame:
    """A frame with a sphere of 8 cm diameter, 60 cm in front of the camera."""
    camera = Camera(fx=500.0, fy=500.0, cx=160.0, cy=120.0, width=320, height=240)
    v, u = np.mgrid[:240, :320]
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    # The smaller root of |z (x, y, 1) - (0, 0, c)| = r.
    square, centre, radius = x**2 + y**2 + 1.0, 0.6, 0.04
    root = centre**2 - square * (centre**2 - radius**2)
    seen = root > 0
    depth = np.where(seen, (centre - np.sqrt(np.maximum(root, 0.0))) / square, 1.0)
    rgb = np.where(seen[..., None], np.uint8(180), np.uint8(90)).repeat(3, axis=-1)
    return Frame(rgb, depth.astype(np.float32), seen.astype(np.int32), camera)


def distribution_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
