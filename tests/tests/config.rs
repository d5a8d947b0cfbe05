//! Configurations: bad ones are refused at their place with their reason, and POT's own words run unchanged.

use holdfast::config::parse;
use std::fs;
use std::path::{Path, PathBuf};

/// The configuration that the cases change.
const BASE: &str = r#"{
  "model": { "model": "net.onnx" },
  "engine": { "datasets": [ {
    "name": "digits", "data_source": "x.npy", "annotation": "y.npy",
    "preprocessing": [ { "type": "normalization", "scale": 255, "mean": 0.1, "std": [0.5] } ],
    "metrics": [ { "type": "accuracy", "top_k": 1 }, { "name": "top5", "type": "accuracy", "top_k": 5 } ]
  } ] },
  "compression": { "algorithms": [ {
    "name": "AccuracyAwareQuantization",
    "params": { "preset": "performance", "maximal_drop": 0.01 }
  } ] }
}"#;

/// The table of bad configurations.
fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/refusals.txt")
}

/// What a case of the table, its lines without the refusal, is refused with.
fn refusal(case: &str) -> String {
    let lines: Vec<&str> = case.lines().collect();
    let (file, text) = match lines.as_slice() {
        [whole] if whole.starts_with("= ") => {
            let (file, text) = whole[2..].split_once(':').expect("a file name and a text");
            (file, text.trim_start().replace("\\n", "\n"))
        }
        [from, to] if from.starts_with("- ") && to.starts_with('+') => {
            let from = &from[2..];
            assert_eq!(BASE.matches(from).count(), 1, "{from} stands in the base once");
            ("c.json", BASE.replace(from, to[1..].trim_start()))
        }
        _ => panic!("a case is one line `=`, or two lines `-` and `+`:\n{case}"),
    };
    match parse(&text, file, Path::new("/base")) {
        Ok(_) => panic!("this is accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_refused_at_their_place_with_their_reason() {
    let expected = fs::read_to_string(table()).expect("the table can be read");
    let mut blocks = expected.trim_end().split("\n\n");
    let mut found = blocks.next().expect("an introduction").to_owned();
    let mut cases = 0;
    for block in blocks {
        let case: Vec<&str> = block.lines().filter(|line| !line.starts_with("    ")).collect();
        let case = case.join("\n");
        found.push_str(&format!("\n\n{case}\n    {}", refusal(&case).replace('\n', "\n    ")));
        cases += 1;
    }
    found.push('\n');
    assert!(cases >= 40, "{cases} cases");
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        fs::write(table(), &found).expect("the table can be written");
        return;
    }
    let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "the table differs, first in (found, expected): {differing:#?}");
}
