"""Looks for accumulators that spill to memory: no depth loop of a dense NEON kernel may touch a vector on the stack.

Times mean nothing in an emulator, instructions do. A spilled loop computes the same, at a fraction of the rate.

Usage: spills.py PROGRAM
"""

import re
import subprocess
import sys

# Functions of the dense kernels, by their mangled names, and the multiply-accumulates a step of theirs has at least.
KERNELS = {"int8": r"4int84arch4neon5dense.*(accumulate|span)", "float": r"5float4tile4neon.*accumulate"}
MULTIPLY = re.compile(r"(sdot|smull2?|fmla)\s")
LEAST = 8
BRANCH = re.compile(r"(?:b\.\w+|cbn?z|tbn?z|b)\s.*?([0-9a-f]+) <")
STACK = re.compile(r"\bq\d+.*\[sp")


def functions(program):
    """Name and (address, instruction) pairs of every function."""
    lines = subprocess.Popen(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program], stdout=subprocess.PIPE, text=True
    ).stdout
    name, body = None, []
    for line in lines:
        if line.endswith(">:\n"):
            yield name, body
            name, body = line[line.index("<") + 1 : -3], []
        elif name and (found := re.match(r"\s*([0-9a-f]+):\s+(.*)", line)):
            body.append((int(found[1], 16), found[2]))
    yield name, body


def depth_loops(body):
    """Instructions of the innermost loops that multiply."""
    loops = {
        (int(found[1], 16), address)
        for address, instruction in body
        if (found := BRANCH.match(instruction)) and int(found[1], 16) <= address
    }
    for first, last in loops:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops):
            loop = [instruction for address, instruction in body if first <= address <= last]
            floats = sum(instruction.startswith("fcvt") for instruction in loop)  # the epilogue of an Add
            if not floats and sum(bool(MULTIPLY.match(instruction)) for instruction in loop) >= LEAST:
                yield loop


seen, spilled = dict.fromkeys(KERNELS, 0), []
for name, body in functions(sys.argv[1]):
    for kind, pattern in KERNELS.items():
        if name and re.search(pattern, name):
            for loop in depth_loops(body):
                seen[kind] += 1
                if any(STACK.search(instruction) for instruction in loop):
                    spilled.append(name)
print(f"depth loops: {seen['int8']} int8 and {seen['float']} float, {len(spilled)} with vectors on the stack")
print("\n".join(spilled))
sys.exit(bool(spilled) or not all(seen.values()))
