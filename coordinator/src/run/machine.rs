//! What this machine computes with: instruction set, threads, memory.

use super::RunError;
use holdfast_kernels::Isa;
use holdfast_worker::engine::{Engine, EngineOptions};
use holdfast_worker::session::WorkerConfig;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// The environment variable that lowers the instruction set.
const ISA_VARIABLE: &str = "HOLDFAST_ISA";
/// Share of the machine's memory that decoded samples may take.
const PIXEL_CACHE_SHARE: u64 = 4;
/// Bytes of decoded samples kept where the machine's memory is unknown.
const PIXEL_CACHE_BYTES: u64 = 1 << 30;

/// The instruction set to use: the best there is, or the one `HOLDFAST_ISA` names.
pub fn isa() -> Result<Isa, RunError> {
    let Ok(value) = std::env::var(ISA_VARIABLE) else { return Ok(Isa::best()) };
    let known = Isa::from_name(&value).filter(|isa| isa.is_available());
    known.ok_or_else(|| {
        let offered = Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        RunError::Isa { value, offered }
    })
}

/// Threads to use: as asked for, or all cores this process may use.
pub fn threads(wish: Option<NonZeroUsize>) -> usize {
    wish.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// Memory of the machine in bytes; `None` where it cannot be told.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// An engine and what its worker says about itself; `share` workers divide the machine.
pub fn worker_parts(name: &str, threads: usize, share: usize) -> Result<(WorkerConfig, Arc<Engine>), RunError> {
    let isa = isa()?;
    let memory = memory_bytes();
    let pixels = memory.map_or(PIXEL_CACHE_BYTES, |memory| memory / PIXEL_CACHE_SHARE) / share.max(1) as u64;
    let options = EngineOptions { isa, threads, pixel_cache_bytes: usize::try_from(pixels).unwrap_or(usize::MAX) };
    let engine = Engine::new(options)?;
    let cores = u32::try_from(threads).unwrap_or(u32::MAX);
    Ok((WorkerConfig::new(name, wire_isa(isa), cores, memory.unwrap_or(0)), Arc::new(engine)))
}

fn wire_isa(isa: Isa) -> holdfast_proto::message::Isa {
    use holdfast_proto::message::Isa as Wire;
    match isa {
        Isa::Scalar => Wire::Scalar,
        Isa::Avx2 => Wire::Avx2,
        Isa::Avx512Vnni => Wire::Avx512Vnni,
        Isa::Neon => Wire::Neon,
        Isa::NeonDotprod => Wire::NeonDotprod,
    }
}

/// The name of an instruction set as it is written in reports.
pub fn isa_name(isa: holdfast_proto::message::Isa) -> &'static str {
    use holdfast_proto::message::Isa as Wire;
    match isa {
        Wire::Scalar => Isa::Scalar.name(),
        Wire::Avx2 => Isa::Avx2.name(),
        Wire::Avx512Vnni => Isa::Avx512Vnni.name(),
        Wire::Neon => Isa::Neon.name(),
        Wire::NeonDotprod => Isa::NeonDotprod.name(),
    }
}
