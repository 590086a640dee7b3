"""A scripted adb whose phones are folders: it lists, pushes and runs as adb does, in the forms adb prints."""

from __future__ import annotations

import sys
from pathlib import Path

from mobile_multimodal.bundle import ModelBundle, save_directory
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from mobile_multimodal.manifest import Component
from tests.tiny import CLASS_NAMES, TINY, tiny_tokenizer

SCRIPTED_ADB = """#!{python}
import os, pathlib, shutil, subprocess, sys
phones = pathlib.Path({phones!r})
words = sys.argv[1:]
serial = None
if words[0] == "-s":
    serial, words = words[1], words[2:]
with (phones / "log").open("a") as log:
    print(serial, *words, file=log)
if words[0] == "devices":
    print("* daemon not running; starting now at tcp:5037")
    print("* daemon started successfully")
    print("List of devices attached")
    for number, phone in enumerate(sorted(phones.glob("*/state")), start=1):
        state = phone.read_text()
        named = " product:p model:Some_Phone device:d" if state == "device" else ""
        print(f"{{phone.parent.name:22}} {{state}} usb:1-{{number}}{{named}} transport_id:{{number}}")
    print()
    sys.exit(0)
state = phones / serial / "state"
if not state.exists() or state.read_text() != "device":
    sys.exit(f"error: device '{{serial}}' not found")
root = phones / serial
inside = lambda text: text.replace("/data/local/tmp", str(root / "tmp"))
if words[0] == "push":
    try:
        shutil.copyfile(words[1], inside(words[2]))
    except OSError as exc:
        sys.exit(f"adb: error: failed to copy {{words[1]!r}} to {{words[2]!r}}: {{exc}}")
    print(f"{{words[1]}}: 1 file pushed, 0 skipped. 30.1 MB/s")
elif words[0] == "shell":
    path = f"{{root / 'bin'}}:{{os.environ['PATH']}}"
    code = subprocess.run(["sh", "-c", inside(words[1])], env={{**os.environ, "PATH": path}}).returncode
    if not state.exists():
        sys.exit("error: closed")
    sys.exit(code)
"""
GETPROP = """#!/bin/sh
case "$1" in
ro.product.model) echo "Some Phone" ;;
ro.soc.model) echo SM1234 ;;
ro.product.cpu.abi) echo arm64-v8a ;;
ro.build.version.release) echo 15 ;;
*) echo ;;
esac
"""
# What the program prints is said in LiteRT's tflite/tools/benchmark; the numbers are of this test.
SCRIPTED_BENCHMARK_MODEL = """#!/bin/sh
for word in "$@"; do
    case "$word" in
    --graph=*) graph="${word#*=}" ;;
    --signature_to_run_for=*) signature="${word#*=}" ;;
    --num_runs=*) runs="${word#*=}" ;;
    --warmup_runs=*) warmup="${word#*=}" ;;
    esac
done
echo "INFO: STARTING!"
test -s "$graph" || { echo "ERROR: Failed to load graph $graph"; echo "ERROR: Benchmarking failed."; exit 1; }
case "$signature" in encode) us=41000 ;; prefill_*) us=6000 ;; decode) us=2000 ;; *) us=90000 ;; esac
echo "INFO: Loaded model $graph"
echo "INFO: Initialized session in 12.345ms."
echo "INFO: Running benchmark for at least $warmup iterations and at least 0 seconds"
echo "INFO: count=$warmup first=$((us * 3)) curr=$us min=$us max=$((us * 3)) avg=$((us * 2)) std=77"
echo
echo "INFO: count=$runs first=$us curr=$us min=$((us - 500)) max=$((us + 900)) avg=$us.4 std=88" \
    "p5=$((us - 400)) median=$us p95=$((us + 700))"
echo
echo "INFO: Inference timings in us: Init: 12345, First inference: $((us * 3))," \
    "Warmup (avg): $((us * 2)), Inference (avg): $us.4"
echo "INFO: Memory footprint delta from the start of the tool (MB): init=4.5 overall=9.25"
echo "INFO: Overall peak memory footprint (MB) via periodic monitoring: 42.5"
"""


class Phones:
    """The folder behind the scripted adb."""

    def __init__(self, root: Path) -> None:
        self.folder, bin_folder = root / "phones", root / "bin"
        self.folder.mkdir()
        bin_folder.mkdir()
        write_program(bin_folder / "adb", SCRIPTED_ADB.format(python=sys.executable, phones=str(self.folder)))
        self.path = str(bin_folder)

    def attach(self, serial: str, state: str = "device") -> Path:
        root = self.folder / serial
        (root / "tmp").mkdir(parents=True)
        (root / "bin").mkdir()
        write_program(root / "bin" / "getprop", GETPROP)
        write_program(root / "bin" / "nproc", "#!/bin/sh\necho 8\n")
        (root / "state").write_text(state)
        return root

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


def write_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_artifact(output: Path) -> ModelBundle:
    """A manifest as exports have it; the graphs are a line of text, which no phone here looks into."""
    specs = graph_specs(TINY, FixedSizes(prefill=(32, 128)))
    components = tuple(
        Component(name, (), (), f"{name}.tflite", 1000, graphs) for name, graphs in specs.items()
    )
    return save_directory(
        output,
        {component.weights: component.name.encode() for component in components},
        kind="artifact",
        target="tflite",
        recipe="float16",
        config=TINY,
        tokenizer=tiny_tokenizer(),
        class_names=CLASS_NAMES,
        components=components,
        tool_versions={},
    )
