//! House rules as code: who may import whom, where `unsafe` may stand, how a file begins, what is left unsaid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are listed, not refused.
const LONG_FILE_LINES: usize = 700;

/// What each of our crates may see of the others; nothing may see the tests.
const MAY_SEE: [(&str, &[&str]); 7] = [
    ("holdfast-common", &[]),
    ("holdfast-kernels", &[]),
    ("holdfast-proto", &["holdfast-common"]),
    ("holdfast-core", &["holdfast-common"]),
    ("holdfast-worker", &["holdfast-common", "holdfast-kernels", "holdfast-proto"]),
    ("holdfast", &["holdfast-common", "holdfast-core", "holdfast-kernels", "holdfast-proto", "holdfast-worker"]),
    (
        "holdfast-tests",
        &["holdfast", "holdfast-common", "holdfast-core", "holdfast-kernels", "holdfast-proto", "holdfast-worker"],
    ),
];

/// Packages that would bring a clock, sockets or threads into a crate that must stay pure.
const IMPURE: [&str; 8] = ["tokio", "tokio-util", "tokio-stream", "tonic", "rayon", "tracing", "rusqlite", "uuid"];

/// The crates that must stay pure.
const PURE: [&str; 3] = ["holdfast-common", "holdfast-core", "holdfast-kernels"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// Every file of ours with one of these extensions, by its path from the root.
fn files(extensions: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("our folders can be read") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "results" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
                let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.insert(relative, text);
            }
        }
    }
    assert!(!found.is_empty(), "no files {extensions:?} below {}", root().display());
    found
}

/// The name of a manifest's package and the packages it depends on, in whatever section and form.
fn dependencies(manifest: &str) -> Option<(String, BTreeSet<String>)> {
    let (mut section, mut name, mut packages) = (String::new(), None, BTreeSet::new());
    for line in manifest.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((before, package)) = section.rsplit_once("dependencies.") {
                assert!(!before.contains("workspace"), "the workspace's list is one table");
                packages.insert(package.to_owned());
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            if section == "package" && key == "name" {
                name = Some(value.trim().trim_matches('"').to_owned());
            } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
                assert!(!value.contains("package"), "`{key}` hides a package behind another name");
                packages.insert(key.trim_end_matches(".workspace").to_owned());
            }
        }
    }
    Some((name?, packages))
}

fn crates() -> BTreeMap<String, BTreeSet<String>> {
    files(&["toml"])
        .into_iter()
        .filter(|(path, _)| path.ends_with("Cargo.toml"))
        .filter_map(|(_, text)| dependencies(&text))
        .collect()
}

/// Fails with every breach, not only the first.
fn assert_none(breaches: &[String], rule: &str) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn manifests_are_understood() {
    let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = { path = \"c\" }\n[dev-dependencies.d]\n\
                    version = \"1\"\n[target.'cfg(unix)'.build-dependencies]\ne = \"1\"\n[features]\nf = []\n";
    let (name, found) = dependencies(manifest).expect("a package");
    assert_eq!((name.as_str(), found), ("a", ["b", "c", "d", "e"].map(str::to_owned).into()));
}

#[test]
fn dependencies_point_inward() {
    let crates = crates();
    let ours: BTreeSet<&str> = MAY_SEE.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
    assert_eq!(found, ours, "a crate of ours is not in the list of this test, or gone");
    let mut breaches = Vec::new();
    for (name, allowed) in MAY_SEE {
        let seen = crates[name].iter().filter(|package| ours.contains(package.as_str()));
        breaches.extend(
            seen.filter(|package| !allowed.contains(&package.as_str())).map(|package| format!("{name} sees {package}")),
        );
    }
    assert_none(&breaches, "arrows point inward");
}

#[test]
fn pure_crates_have_no_way_to_a_clock_a_socket_or_a_thread() {
    let crates = crates();
    let breaches: Vec<String> = PURE
        .iter()
        .flat_map(|name| crates[*name].iter().map(move |package| (name, package)))
        .filter(|(_, package)| IMPURE.contains(&package.as_str()))
        .map(|(name, package)| format!("{name} depends on {package}"))
        .collect();
    assert_none(&breaches, "pure crates stay pure");
}

#[test]
fn unsafe_stands_in_the_kernels_only_and_gives_its_reason() {
    // Assembled, so that this file is no breach of its own rule.
    let word = ["un", "safe"].concat();
    let mut breaches = Vec::new();
    for (path, text) in files(&["rs"]) {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let opens = [format!("{word} {{"), format!("{word} fn"), format!("{word} impl"), format!("{word} extern")];
            if !opens.iter().any(|open| code.contains(open.as_str())) {
                continue;
            }
            if !path.starts_with("worker/kernels/") {
                breaches.push(format!("{path}:{}: {}", index + 1, line.trim()));
                continue;
            }
            let before = &lines[index.saturating_sub(8)..=index];
            if code.contains(opens[0].as_str()) && !before.iter().any(|line| line.contains("SAFETY:")) {
                breaches.push(format!("{path}:{}: no reason: {}", index + 1, line.trim()));
            }
        }
    }
    assert_none(&breaches, "only kernels may do what the compiler cannot check, and each block says why it is sound");
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    let breaches: Vec<String> = files(&["rs"])
        .into_iter()
        .filter(|(_, text)| text.lines().next().is_none_or(|line| !line.starts_with("//! ") || line.len() < 20))
        .map(|(path, _)| path)
        .collect();
    assert_none(&breaches, "files begin with a sentence on what the room is for");
}

#[test]
fn nothing_is_left_for_later_and_no_workshop_words_remain() {
    // Assembled, so that this file is no breach of its own rule.
    let code = [["to", "do!("], ["unimpl", "emented!("], ["db", "g!("], ["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]];
    let prose = [["/work", "/"], ["the ", "lead "], ["hel", "pers "], ["this ", "session of"], ["as ", "an ai "]];
    let mut breaches = Vec::new();
    for (path, text) in files(&["rs", "md", "toml", "proto", "py", "json"]) {
        for (index, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            let found = code.iter().map(|parts| parts.concat()).find(|word| line.contains(word.as_str()));
            let found = found.or_else(|| prose.iter().map(|parts| parts.concat()).find(|word| lower.contains(word)));
            if let Some(word) = found {
                breaches.push(format!("{path}:{}: `{word}`", index + 1));
            }
        }
    }
    assert_none(&breaches, "the repository speaks of the product alone");
}

#[test]
fn long_files_are_listed() {
    let mut long: Vec<(usize, String)> = files(&["rs"])
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > LONG_FILE_LINES)
        .collect();
    long.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in &long {
        println!("{path} has {lines} lines: which two rooms is it?");
    }
    let own = files(&["rs"]);
    assert!(own.contains_key("tests/tests/tidy.rs"), "the walk reaches this file");
}
