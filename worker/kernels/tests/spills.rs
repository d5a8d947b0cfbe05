//! No loop over depth keeps accumulators on the stack: the compiled kernels are disassembled and looked through.
//!
//! A compiler that moves vectors to memory within these loops costs three quarters of the speed and changes no result, so
//! no other test would see it.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use holdfast_kernels::float::{ConvF32, Epilogue, PackedF32};
use holdfast_kernels::registry::kernels;
use holdfast_kernels::{ConvGeometry, Isa};
use std::process::Command;

/// Multiply-accumulate instructions that a loop over depth has at least; loops of small tiles have nothing to spill.
const LOOP_PRODUCTS_MIN: usize = 8;

/// Instruction address and text, of one function.
type Listing<'a> = Vec<(u64, &'a str)>;

/// The functions of a disassembly whose names say that they run over depth.
fn listings(text: &str) -> Vec<(&str, Listing<'_>)> {
    let mut functions: Vec<(&str, Listing<'_>)> = Vec::new();
    let mut wanted = false;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once('<')).map(|(_, name)| name) {
            wanted = name.contains("holdfast_kernels") && (name.contains("accumulate") || name.contains("span"));
            if wanted {
                functions.push((name, Vec::new()));
            }
        } else if wanted && let Some((address, instruction)) = line.trim_start().split_once(":\t") {
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            functions.last_mut().unwrap().1.push((address, instruction));
        }
    }
    functions
}

/// Where a jump goes.
fn jump_target(instruction: &str) -> Option<u64> {
    let (name, target) = instruction.split_once(' ')?;
    let target = target.trim().split(' ').next()?;
    name.starts_with('j').then(|| u64::from_str_radix(target, 16).ok()).flatten()
}

/// The innermost loops: from the target of a jump backwards to the jump, with no such jump between.
fn innermost_loops<'l, 'a>(listing: &'l Listing<'a>) -> Vec<&'l [(u64, &'a str)]> {
    let mut loops = Vec::new();
    let mut after_last = 0;
    for (index, (address, instruction)) in listing.iter().enumerate() {
        let Some(target) = jump_target(instruction).filter(|target| target <= address) else { continue };
        let first = listing.partition_point(|(address, _)| *address < target);
        if first >= after_last {
            loops.push(&listing[first..=index]);
        }
        after_last = index + 1;
    }
    loops
}

fn is_product(instruction: &str) -> bool {
    ["vpdpbusd", "vfmadd", "vpmaddwd"].iter().any(|name| instruction.starts_with(name))
}

/// Whether a vector goes to the stack. One that only comes from there is a constant for which no register was left.
fn is_spill(instruction: &str) -> bool {
    (instruction.contains("%zmm") || instruction.contains("%ymm")) && instruction.trim_end().ends_with("(%rsp)")
}

#[test]
fn loops_over_depth_stay_in_registers() {
    if cfg!(debug_assertions) {
        return println!("skipped: this is no optimised build");
    }
    // What is called is linked, and so can be looked at.
    assert!(kernels().count() > 0);
    let geometry = ConvGeometry::matrix(1, 1, 1, 1, 1);
    let packed = PackedF32::pack(Isa::best(), 1, 1, 1, &[1.0]);
    ConvF32::new(Isa::best(), &geometry).unwrap().run(&packed, &[1.0], &Epilogue::bias(&[0.0]), &mut [0.0]);

    let program = std::env::current_exe().unwrap();
    let listing = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).output();
    let text = match listing {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => return println!("skipped: there is no objdump"),
    };
    let (mut looked_at, mut spills) = (0, Vec::new());
    for (name, listing) in listings(&text) {
        for body in innermost_loops(&listing) {
            if body.iter().filter(|(_, instruction)| is_product(instruction)).count() < LOOP_PRODUCTS_MIN {
                continue;
            }
            looked_at += 1;
            let spill = body.iter().find(|(_, instruction)| is_spill(instruction));
            spills.extend(spill.map(|(address, instruction)| format!("{name} at {address:x}: {instruction}")));
        }
    }
    assert!(looked_at > 40, "only {looked_at} loops over depth were recognised");
    assert!(spills.is_empty(), "{} of {looked_at} loops use the stack:\n{}", spills.len(), spills.join("\n"));
}

#[test]
fn a_spill_in_an_inner_loop_is_seen() {
    let text = "0000000000001000 <_ZN16holdfast_kernels4int810accumulate17h0E>:\n\
                \x20   1000:\tvpxor  %xmm0,%xmm0,%xmm0\n\
                \x20   1004:\tvpdpbusd %zmm1,%zmm2,%zmm3\n\
                \x20   1008:\tvmovups %zmm3,0x40(%rsp)\n\
                \x20   100c:\tjne    1004 <_ZN16holdfast_kernels4int810accumulate17h0E+0x4>\n\
                \x20   1010:\tvmovups %zmm4,0x80(%rsp)\n\
                \x20   1014:\tjmp    1000 <_ZN16holdfast_kernels4int810accumulate17h0E>\n";
    let functions = listings(text);
    let loops = innermost_loops(&functions[0].1);
    assert_eq!(loops.len(), 1, "the outer loop is none of the innermost");
    assert_eq!(loops[0].iter().filter(|(_, instruction)| is_product(instruction)).count(), 1);
    assert_eq!(loops[0].iter().filter(|(_, instruction)| is_spill(instruction)).count(), 1);
}
