//! Progress of a run: a bar per stage on a terminal, a log line every now and then elsewhere.

use crate::cli::ProgressArg;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two log lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// The stage's name; another name ends the stage before.
    pub stage: String,
    /// Sample evaluations done in this stage.
    pub done: u64,
    /// Sample evaluations the stage asks for, as far as known.
    pub total: u64,
    /// Workers computing.
    pub workers: usize,
}

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Bars on standard error.
    Bars,
    /// Log lines.
    Lines,
}

impl ProgressStyle {
    /// Bars where asked for and possible.
    pub fn choose(wish: ProgressArg) -> ProgressStyle {
        match wish {
            ProgressArg::Auto if std::io::stderr().is_terminal() => ProgressStyle::Bars,
            ProgressArg::Auto | ProgressArg::Never => ProgressStyle::Lines,
        }
    }
}

/// Shows progress as it is told; keeps no clock of its own beyond pacing lines.
#[derive(Debug)]
pub struct Progress {
    style: ProgressStyle,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    stage: String,
    bar: ProgressBar,
    since: Instant,
    last_line: Instant,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(style: ProgressStyle) -> Progress {
        Progress { style, current: None }
    }

    /// Shows where the run is; cheap enough to be called at every result.
    pub fn update(&mut self, progress: &StageProgress, now: Instant) {
        let is_new = self.current.as_ref().is_none_or(|current| current.stage != progress.stage);
        if is_new {
            self.finish();
            let bar = match self.style {
                ProgressStyle::Bars => new_bar(&progress.stage),
                ProgressStyle::Lines => ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            };
            self.current = Some(Current { stage: progress.stage.clone(), bar, since: now, last_line: now });
        }
        let Some(current) = &mut self.current else {
            return;
        };
        current.bar.set_length(progress.total);
        current.bar.set_position(progress.done);
        current.bar.set_message(plural(progress.workers, "worker"));
        let due = now.duration_since(current.last_line) >= LINE_EVERY;
        if self.style == ProgressStyle::Lines && (is_new || due) {
            current.last_line = now;
            tracing::info!("{}", line(progress, now.duration_since(current.since)));
        }
    }

    /// Ends the stage that is shown; its bar stays as it is.
    pub fn finish(&mut self) {
        if let Some(current) = self.current.take() {
            current.bar.abandon();
        }
    }
}

fn new_bar(stage: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_prefix(stage.to_owned());
    let template = "{prefix:>16} [{bar:32}] {human_pos}/{human_len} samples, {elapsed} gone, {eta} left, {msg}";
    if let Ok(style) = BarStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// One line of text: how far, and how long it will take at the stage's mean speed.
fn line(progress: &StageProgress, elapsed: Duration) -> String {
    let percent = (progress.done * 100).checked_div(progress.total).unwrap_or(0).min(100);
    let left = match progress.total.checked_sub(progress.done) {
        Some(left) if progress.done > 0 => {
            let seconds = elapsed.as_secs_f64() * left as f64 / progress.done as f64;
            format!(", about {} left", duration(seconds))
        }
        _ => String::new(),
    };
    let StageProgress { stage, done, total, workers } = progress;
    format!("{stage}: {done}/{total} samples ({percent} %), {}{left}", plural(*workers, "worker"))
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// Seconds as people say them: `8.3 s`, `4 min 05 s`, `3 h 20 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{:.1} s", seconds.max(0.0)),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, total: u64, workers: usize) -> StageProgress {
        StageProgress { stage: "ranking".to_owned(), done, total, workers }
    }

    #[test]
    fn a_line_says_how_far_and_how_long() {
        let text = line(&at(250, 1000, 2), Duration::from_secs(60));
        assert_eq!(text, "ranking: 250/1000 samples (25 %), 2 workers, about 3 min 00 s left");
        assert_eq!(line(&at(0, 0, 1), Duration::ZERO), "ranking: 0/0 samples (0 %), 1 worker");
        // The total is a guess that may be passed.
        assert_eq!(line(&at(7, 5, 0), Duration::ZERO), "ranking: 7/5 samples (100 %), 0 workers");
    }

    #[test]
    fn durations_read_like_speech() {
        for (seconds, expected) in
            [(0.04, "0.0 s"), (59.94, "59.9 s"), (245.0, "4 min 05 s"), (12000.0, "3 h 20 min"), (-1.0, "0.0 s")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn a_stage_restarts_its_pace_when_its_name_changes() {
        let mut progress = Progress::new(ProgressStyle::Lines);
        let start = Instant::now();
        progress.update(&at(1, 10, 1), start);
        let later = start + Duration::from_secs(30);
        progress.update(&StageProgress { stage: "validation".to_owned(), ..at(0, 5, 1) }, later);
        let current = progress.current.as_ref().expect("a stage is shown");
        assert_eq!((current.stage.as_str(), current.since), ("validation", later));
        progress.finish();
        assert!(progress.current.is_none());
    }
}
