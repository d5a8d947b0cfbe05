//! Log lines on standard error.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no level.
    #[error("--log-level: `{filter}` is not understood: {problem}; expected error, warn, info, debug or trace")]
    Filter {
        /// What was given.
        filter: String,
        /// Why it is refused.
        problem: String,
    },
    /// Something else logs in this process already.
    #[error("logging is set up already")]
    Taken,
}

/// Starts logging; `filter` is a level, or levels per module as `holdfast=debug,tonic=warn`.
///
/// A bare level is that of this program's own crates; libraries then speak from `warn` up.
pub fn start_logging(filter: &str) -> Result<(), LogError> {
    let filter = parse_filter(filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(|_| LogError::Taken)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let refuse = |problem: String| LogError::Filter { filter: filter.to_owned(), problem };
    if filter.contains(['=', ',']) {
        return EnvFilter::try_new(filter).map_err(|error| refuse(error.to_string()));
    }
    // POT's words for what has another name here.
    let word = match filter {
        "CRITICAL" => "error",
        "WARNING" => "warn",
        word => word,
    };
    let level: tracing::level_filters::LevelFilter =
        word.parse().map_err(|_| refuse("there is no such level".to_owned()))?;
    let others = level.min(tracing::level_filters::LevelFilter::WARN);
    let own = ["holdfast", "holdfast_core", "holdfast_worker"].map(|name| format!("{name}={level}")).join(",");
    EnvFilter::try_new(format!("{others},{own}")).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_keeps_libraries_quiet() {
        let filter = parse_filter("debug").expect("a level").to_string();
        assert!(filter.contains("holdfast=debug") && filter.contains("warn"), "{filter}");
        let filter = parse_filter("error").expect("a level").to_string();
        assert!(filter.contains("holdfast=error") && !filter.contains("warn"), "{filter}");
        for (pot, own) in [("CRITICAL", "error"), ("ERROR", "error"), ("WARNING", "warn"), ("DEBUG", "debug")] {
            assert_eq!(parse_filter(pot).expect("POT's").to_string(), parse_filter(own).expect("ours").to_string());
        }
    }

    #[test]
    fn directives_pass_through_and_other_words_are_refused() {
        assert!(parse_filter("holdfast=trace,h2=off").is_ok());
        let error = parse_filter("loud").expect_err("no level").to_string();
        assert!(error.contains("`loud`") && error.contains("expected error, warn"), "{error}");
        assert!(parse_filter("holdfast=loud").is_err());
    }
}
