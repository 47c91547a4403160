"""Damage sound image files in many ways and decode them: an image or a reason, in bounded time and memory.

A child process decodes, so that a crash of a decoder would be seen, with the file that caused it, and not end the test.

    python tests/torture/fuzz.py 10000 fuzz.json          by hand; `make torture` says it too
"""

import io
import json
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "scripts")]

import corpus  # noqa: E402

from eightfold.raw import images  # noqa: E402

MEMORY = 3 * 2**30  # bytes that the decoding process may ask for
SLOWEST = 60.0  # seconds that one file may take before it counts as hanging
BATCH = 500
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def mutated(number: int, sources: list[bytes]) -> bytes:
    """File ``number``: equal numbers, equal bytes."""
    chance = random.Random(number)
    content = bytearray(chance.choice(sources))
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        if len(content) < 8:
            break
        # Half of the damage goes to the head, where sizes and tables are.
        at = chance.randrange(min(len(content), chance.choice([64, 256, len(content)])))
        kind = chance.randrange(8)
        if kind == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[at] = chance.randrange(256)
        elif kind == 2:  # a number that no author expects
            width = chance.choice("BHI")
            packed = struct.pack(chance.choice("<>") + width, chance.choice(EXTREMES) % 256 ** struct.calcsize(width))
            content[at : at + len(packed)] = packed
        elif kind == 3:
            del content[at : at + chance.choice([1, 4, 32])]
        elif kind == 4:
            content[at:at] = content[at : at + chance.choice([1, 16, 200])]
        elif kind == 5:
            content[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice([1, 8, 64])))
        elif kind == 6:
            del content[chance.randrange(len(content)) :]
        else:  # a piece of another file
            other = chance.choice(sources)
            start = chance.randrange(max(1, len(other)))
            content[at : at + 64] = other[start : start + 64]
    if content[:8] == b"\x89PNG\r\n\x1a\n" and chance.random() < 0.7:
        content = _checksums_mended(bytes(content))
    return bytes(content)


def _checksums_mended(content: bytes) -> bytes:
    """A PNG with right checksums, so that its damage gets past them to the decoder."""
    made, at = content[:8], 8
    while at + 12 <= len(content):
        size = struct.unpack_from(">I", content, at)[0]
        if at + 12 + size > len(content):
            break
        body = content[at + 4 : at + 8 + size]
        made += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return made + content[at:]


def decode(first: int, last: int) -> None:
    """Decode the files of a range, and tell of each on a line before and after: what a parent reads."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sources = [content for content in corpus.sound() if len(content) < 50_000]
    for number in range(first, last):
        content = mutated(number, sources)
        print(f"try {number}", flush=True)
        began = time.perf_counter()
        try:
            # Every second pair as for a small cache: a JPEG is then decoded at a fraction of its size.
            short_side = (None, 8)[number // 2 % 2]
            image, _ = images.decode(content if number % 2 else io.BytesIO(content), short_side=short_side)
            assert image.mode == "RGB" and min(image.size) > 0
            told = "read"
        except images.BadImage as error:
            assert str(error) and "\n" not in str(error)
            told = "rejected"
        print(f"{told} {time.perf_counter() - began:.3f}", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}", flush=True)


def run(files: int, first: int = 0) -> dict:
    """Figures of decoding files ``first`` to ``first + files``: how many were read and rejected, what went wrong."""
    seen = {"files": 0, "read": 0, "rejected": 0, "failures": [], "slowest_s": 0.0, "peak_bytes": 0}
    at, end = first, first + files
    while at < end:
        last = min(at + BATCH, end)
        command = [sys.executable, __file__, "--decode", str(at), str(last)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = child.communicate(timeout=SLOWEST * 10)
        except subprocess.TimeoutExpired:
            child.kill()
            output, errors = child.communicate()
            errors += "timeout"
        done = at
        for word, value in (line.split() for line in output.splitlines()):
            if word == "try":
                done = int(value) + 1
            elif word == "peak":
                seen["peak_bytes"] = max(seen["peak_bytes"], int(value))
            else:
                seen[word] += 1
                seen["slowest_s"] = max(seen["slowest_s"], float(value))
        seen["files"] += done - at
        if child.returncode:
            words = (errors.strip().splitlines() or [""])[-1]
            seen["failures"].append({"file": done - 1, "status": child.returncode, "told": words})
            print(seen["failures"][-1], flush=True)
        at = done if child.returncode else last
    return seen


if __name__ == "__main__":
    if sys.argv[1] == "--decode":
        decode(int(sys.argv[2]), int(sys.argv[3]))
        sys.exit()
    began = time.monotonic()
    figures = run(int(sys.argv[1])) | {"seconds": round(time.monotonic() - began)}
    Path(sys.argv[2]).write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(figures)
    sys.exit(int(bool(figures["failures"]) or figures["slowest_s"] > SLOWEST))
