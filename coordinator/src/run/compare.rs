//! `holdfast compare`: two runs' reports side by side.

use super::RunError;
use crate::cli::CompareArgs;
use crate::output::REPORT_JSON;
use crate::report::REPORT_SCHEMA;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A report larger than this is no report.
const REPORT_BYTES_MAX: u64 = 256 << 20;

/// Reads both reports; returns a table.
pub fn compare(args: &CompareArgs) -> Result<String, RunError> {
    let reports = [read(&args.first)?, read(&args.second)?];
    Ok(table(&reports))
}

/// The report of a run: its file, or that in its directory.
pub(super) fn read(path: &Path) -> Result<Value, RunError> {
    let path: PathBuf = if path.is_dir() { path.join(REPORT_JSON) } else { path.to_owned() };
    let failed = |source| RunError::Read { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(REPORT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let refuse = |problem: String| RunError::Report { path: path.clone(), problem };
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(refuse(format!("it is larger than {REPORT_BYTES_MAX} bytes")));
    }
    let report: Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    match report["schema"].as_u64() {
        Some(schema) if schema == u64::from(REPORT_SCHEMA) => Ok(report),
        Some(schema) => Err(refuse(format!("its layout is version {schema}; this program reads {REPORT_SCHEMA}"))),
        None => Err(refuse("it has no `schema`; give a directory that `holdfast quantize` wrote".to_owned())),
    }
}

fn number(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(number)) => format!("{number:.6}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            (None, None) => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

/// A list of names in a report.
fn names<'r>(report: &'r Value, pointer: &str) -> Vec<&'r str> {
    let list = report.pointer(pointer).and_then(Value::as_array);
    list.map_or(Vec::new(), |list| list.iter().filter_map(Value::as_str).collect())
}

fn table(reports: &[Value; 2]) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |label: String, values: [String; 2]| {
        let [first, second] = values;
        rows.push([label, first, second]);
    };
    let both =
        |pointer: &str| [0, 1].map(|run: usize| reports[run].pointer(pointer).map_or_else(|| "–".to_owned(), number));
    for (label, pointer) in [
        ("model", "/model/name"),
        ("model digest", "/model/digest"),
        ("algorithm", "/parameters/algorithm"),
        ("mode", "/parameters/parameters/mode"),
        ("engine", "/engine/version"),
        ("outcome", "/outcome"),
    ] {
        row(label.to_owned(), both(pointer));
    }
    let metrics: BTreeSet<&str> = reports.iter().flat_map(|report| names(report, "/run/metrics")).collect();
    for metric in metrics {
        for (what, list) in
            [("float", "baseline"), ("result", "final_values"), ("drop", "final_drops"), ("limit", "limits")]
        {
            let value = |report: &Value| {
                let place = names(report, "/run/metrics").iter().position(|name| *name == metric);
                place.map_or_else(|| "–".to_owned(), |place| number(&report["run"][list][place]))
            };
            row(format!("{metric} {what}"), [value(&reports[0]), value(&reports[1])]);
        }
    }
    for (label, pointer) in [
        ("operations", "/run/operations"),
        ("groups", "/run/groups"),
        ("full evaluations", "/run/counts/full_evaluations"),
        ("ranking evaluations", "/run/counts/ranking_evaluations"),
        ("samples computed", "/timings/samples_computed"),
        ("samples reused", "/timings/samples_reused"),
        ("wall seconds", "/timings/wall_seconds"),
    ] {
        row(label.to_owned(), both(pointer));
    }
    let reverted = [0, 1].map(|run: usize| names(&reports[run], "/run/reverted_operations"));
    row("reverted".to_owned(), [reverted[0].len().to_string(), reverted[1].len().to_string()]);
    let mut text = aligned(&rows);
    for (label, of, without) in [("first", 0, 1), ("second", 1, 0)] {
        let only: Vec<&str> = reverted[of].iter().copied().filter(|name| !reverted[without].contains(name)).collect();
        if !only.is_empty() {
            let _ = writeln!(text, "reverted in the {label} run only: {}", only.join(", "));
        }
    }
    text
}

/// Rows whose values differ are marked.
fn aligned(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (label, first) = (width(0), width(1));
    let mut text = String::new();
    for [name, left, right] in rows {
        let mark = if left == right { " " } else { "*" };
        let _ = writeln!(text, "{mark} {name:<label$}  {left:<first$}  {right}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(drop: f64, reverted: &[&str]) -> Value {
        json!({
            "schema": REPORT_SCHEMA,
            "model": { "name": "net" },
            "run": { "metrics": ["top1"], "baseline": [0.9], "final_values": [0.9 - drop], "final_drops": [drop],
                     "limits": [0.01], "reverted_operations": reverted },
            "timings": { "wall_seconds": 1.5 },
        })
    }

    #[test]
    fn what_differs_is_marked_and_reverted_operations_are_named() {
        let text = table(&[report(0.005, &["a", "b"]), report(0.25, &["b"])]);
        assert!(text.contains("* top1 drop"), "{text}");
        assert!(text.contains("  top1 limit"), "{text}");
        assert!(text.contains("reverted in the first run only: a"), "{text}");
        assert!(!text.contains("second run only"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, expected) in [("{}", "no `schema`"), ("[", "EOF"), ("{\"schema\": 99}", "version 99")] {
            std::fs::write(folder.path().join(REPORT_JSON), content).expect("written");
            let error = read(folder.path()).expect_err(content).to_string();
            assert!(error.contains(expected) && error.contains("report.json"), "{error}");
        }
    }
}
