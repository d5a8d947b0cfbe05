//! The program under test: built when it is missing or older than its sources, and started with a clean environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a program to test instead of the one in the target folder.
const PROGRAM_VARIABLE: &str = "HOLDFAST_TESTED_PROGRAM";

/// A command that runs `holdfast`, with none of the variables it listens to.
pub fn holdfast() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PROGRAM.get_or_init(locate));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("HOLDFAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Test programs lie in `target/<profile>/deps`, ours in `target/<profile>`.
fn locate() -> PathBuf {
    if let Some(path) = env::var_os(PROGRAM_VARIABLE) {
        return path.into();
    }
    let own = env::current_exe().expect("a test knows its own program");
    let folder = own.ancestors().nth(2).expect("test programs lie two folders deep").to_owned();
    let program = folder.join("holdfast");
    if !is_fresh(&program) {
        build(&folder);
    }
    assert!(program.is_file(), "{} was not built; name the program in {PROGRAM_VARIABLE}", program.display());
    program
}

/// Whether the program is as new as every source its dependency file names.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let (Some(built), Ok(list)) = (modified(program), fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    let sources = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    sources.split(' ').all(|source| modified(Path::new(source)).is_some_and(|changed| changed <= built))
}

fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--package", "holdfast", "--bin", "holdfast", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the program cannot be built: {status}");
}
