#!/usr/bin/env python3
"""The GPU's kernels as compiled (`./build.sh cuda`): one cubin for each architecture, nothing spilled to memory, and no instruction that would break the
bit rule: every sum, product and fused pair rounds to nearest and is the one that was written, subnormals are zero, division and square root are the
correctly rounded ones, no function of the GPU's approximates, no sum is made by atomics."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from node import done, ok  # noqa: E402

BUILD = os.path.join(ROOT, "build", "cuda")
ARCHS = ("80", "89", "90", "100", "120")

# Of the listing of machine code. RCP and RSQ are where the exact division and root begin.
FORBIDDEN = {"spills": r"\b(STL|LDL)\b", "approximations": r"\bMUFU\.(?!RCP\b|RSQ\b)\w+", "atomic sums": r"\b(ATOM|ATOMG|ATOMS|RED)\.[\w.]*F(32|16|64)",
             "binary64": r"\bD(FMA|ADD|MUL)\b"}
# Of the intermediate code, where what was written and what the compiler fused can still be told apart.
ALLOWED = re.compile(r"(add|sub|mul|fma)\.rn\.ftz\.f32|div\.rn\.ftz\.f32|sqrt\.rn\.ftz\.f32|(neg|abs)\.ftz\.f32|(min|max)\.ftz\.f32|"
                     r"setp\.\w+(\.\w+)?\.ftz\.f32|cvt\.rn\.f32\.[su]32|cvt\.rni(\.ftz)?\.s32\.f32|cvt\.f32\.f16|cvt\.ftz\.f32\.f16|selp\.f32|mov\.f32|"
                     r"(ld|st)(\.\w+)*\.f32|cvt\.rn\.f16x2\.e4m3x2")
FLOAT = re.compile(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*\.f(?:32|16x2|16|64)(?:\.\w+)?)\b", re.M)


def forbidden(listing):
    return {name: len(re.findall(pattern, listing)) for name, pattern in FORBIDDEN.items() if re.search(pattern, listing)}


def strange(ptx):
    return sorted({op for op in FLOAT.findall(ptx) if not ALLOWED.fullmatch(op)})


ok(len(forbidden("STL [R1], R2 ; MUFU.EX2 R0, R1 ; RED.E.ADD.F32.FTZ.RN [R2], R3 ; DFMA R0, R2, R4, R6 ;")) == 4 and not forbidden("MUFU.RCP R0, R1 ; LDS R1"),
   "what is forbidden would be noticed")
ok(strange("\tmul.ftz.f32 %f1, %f2, %f3;\n\tfma.rn.ftz.f32 %f1, %f2, %f3, %f4;\n\tdiv.approx.ftz.f32 %f1, %f2, %f3;") == ["div.approx.ftz.f32", "mul.ftz.f32"],
   "so would an operation that the compiler may fuse, or an approximate one")
if not os.path.exists(os.path.join(BUILD, "kernels.ptx")):
    ok(True, "the kernels # SKIP not compiled here: ./build.sh cuda")
    done()
for arch in ARCHS:
    ok(os.path.getsize(os.path.join(BUILD, f"kernels.sm_{arch}.cubin")) > 100000, f"sm_{arch}: there is a cubin")
    with open(os.path.join(BUILD, f"kernels.sm_{arch}.sass")) as f:
        listing = f.read()
    ok(listing.count("FFMA.FTZ") > 500 and not forbidden(listing), f"sm_{arch}: no spills, no forbidden instruction", forbidden(listing))
with open(os.path.join(BUILD, "kernels.ptx")) as f:
    ptx = f.read()
ok(ptx.count("fma.rn.ftz.f32") > 500 and not strange(ptx), "every operation on floats is one that was written, with its rounding", strange(ptx))
done()
