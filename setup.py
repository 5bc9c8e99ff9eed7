"""The package's build: everything it needs to know stands in settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(HERE / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
lessons = settings["lessons_requirements"].split()
user, repo = settings["user"].strip(), settings["repo"].strip()

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"].split(),
    url=f"https://github.com/{user}/{repo}" if user else None,
    packages=find_packages(include=["text_recognizer", "text_recognizer.*"]),
    include_package_data=True,
    package_data={"text_recognizer": ["py.typed", "reading/weights/*", "reading/pad.js", "reading/pad.css",
                                      "data/glyphs/skeletons.txt"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={"lessons": lessons, "dev": lessons + settings["dev_requirements"].split()},
    entry_points={"console_scripts": settings["console_scripts"].split(),
                  "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"]},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Education",
                 "Programming Language :: Python :: 3", "Topic :: Scientific/Engineering :: Image Recognition"],
    zip_safe=False,
)
