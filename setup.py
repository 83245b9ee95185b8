"""What the package is and needs; tools are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "insightedit/__init__.py").read_text(encoding="utf-8"), re.M)
assert VERSION is not None, "insightedit/__init__.py holds no `__version__ = ...`"
README = HERE / "README.md"

BASE = [
    "accelerate",
    "diffusers>=0.38",
    "einops",
    "filelock",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "omegaconf>=2.4",
    "peft",
    "pillow",
    "protobuf",
    "pyyaml",
    "rich",
    "safetensors",
    "scikit-image",
    "scipy>=1.15",
    "sentencepiece",
    "tokenizers",
    "torch",
    "torchvision",  # together with torch, from the same index
    "transformers>=5",
    "typer",
]
EXTRAS = {
    "train": [
        "bitsandbytes; sys_platform != 'darwin'",
        "deepspeed>=0.19.8; sys_platform == 'linux'",  # elsewhere the same loop runs on plain torch
        "matplotlib",
        "ninja",
        "tensorboard",
    ],
    "data": ["datasets", "matplotlib", "pyarrow"],
    "eval": ["httpx", "lpips", "matplotlib", "open_clip_torch", "pydantic", "torchmetrics"],
    "ray": ["ray[data]>=2.40"],
    "heic": ["pillow-heif"],
    "notebook": ["ipykernel", "matplotlib", "nbclient", "nbformat"],
}
EXTRAS["dev"] = [
    *sorted({need for extra in EXTRAS.values() for need in extra}),
    "build",
    "codespell",
    "coverage[toml]",
    "hypothesis",
    "pre-commit",
    "pyright[nodejs]",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff~=0.17.5",
    "setuptools>=77",
    "wheel",
]

DATA = ("html", "webp", "jpg", "png", "json", "jsonl", "txt", "md", "yaml")  # endings of files beside the code

setup(
    name="insightedit",
    version=VERSION[1],
    description="Edit pictures by instruction with a multimodal language model.",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    project_urls={
        "InsightEdit (paper)": "https://arxiv.org/abs/2411.17323",
        "SmartEdit (paper)": "https://arxiv.org/abs/2312.06739",
        "MGIE (paper)": "https://arxiv.org/abs/2309.17102",
        "MIGE (paper)": "https://arxiv.org/abs/2502.21291",
    },
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["insightedit", "insightedit.*", "data_recipes", "data_recipes.*"]),
        "insightedit.configs",
    ],
    package_dir={"insightedit.configs": "configs"},
    package_data={
        "insightedit": ["py.typed", "templates/*", "weights/**/*", *(f"**/*.{ending}" for ending in DATA)],
        "insightedit.configs": ["**/*.yaml", "**/*.json", "**/*.md"],
        "data_recipes": [f"**/*.{ending}" for ending in DATA],
    },
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["insightedit = insightedit.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
