//! `holdfast worker`: computes for a coordinator elsewhere until told to stop.

use super::RunError;
use super::machine::{threads, worker_parts};
use crate::cli::WorkerArgs;
use holdfast_worker::artifact::{ArtifactCache, DiskCache, GrpcOrigin};
use holdfast_worker::session::{GrpcConnector, Worker, channel};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Bytes of fetched artifacts kept in memory.
const MEMORY_CACHE_BYTES: u64 = 1 << 30;
/// Bytes of fetched artifacts kept on disk.
const DISK_CACHE_BYTES: u64 = 64 << 30;

/// Dials in and computes; returns when drained, refused, or out of patience.
pub async fn worker(args: &WorkerArgs, drain: CancellationToken) -> Result<(), RunError> {
    let name = host_name();
    let (config, engine) = worker_parts(&name, threads(args.threads), 1)?;
    let channel = channel(&args.connect)?;
    let origin = Arc::new(GrpcOrigin::new(channel.clone(), Handle::current()));
    let disk = args.cache_dir.as_deref().map(|path| DiskCache::open(path, DISK_CACHE_BYTES)).transpose()?;
    let cache = Arc::new(ArtifactCache::new(origin, MEMORY_CACHE_BYTES, disk));
    info!(%name, coordinator = %args.connect, "worker started");
    Worker::new(config, Arc::new(GrpcConnector::new(channel)), engine, cache)?.run(drain).await?;
    info!("worker drained");
    Ok(())
}

/// The machine's name with the process id, so that two workers of one machine can be told apart.
fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "worker" } else { host }, std::process::id())
}
