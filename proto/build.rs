//! Compiles the `.proto` files without an installed `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["holdfast/v1/worker.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".holdfast.v1.Chunk").compile_fds(files)?;
    Ok(())
}
