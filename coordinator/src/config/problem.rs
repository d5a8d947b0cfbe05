//! What can be wrong with a configuration, pointed at by file, line and column.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceSpan};
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, or deserves a warning, at one place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: the key's path, what was expected, what was found.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Which of the files read: 0 is the configuration itself, others are those it names.
    pub(super) file: usize,
    /// The bytes to underline.
    pub(super) span: SourceSpan,
}

/// All problems of a configuration and the files it names.
#[derive(Debug)]
pub struct InvalidConfig {
    /// The files, in the order they were read.
    sources: Vec<NamedSource<String>>,
    /// In the order of the texts; never empty.
    pub problems: Vec<Problem>,
}

impl InvalidConfig {
    /// `texts` are names and contents of the files.
    pub(super) fn new(texts: Vec<(String, String)>, problems: Vec<Problem>) -> InvalidConfig {
        let sources = texts.into_iter().map(|(name, text)| NamedSource::new(name, text)).collect();
        InvalidConfig { sources, problems }
    }
}

/// One line a problem: `file:line:column: message (help)`; the underlined source is miette's part.
impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let name = self.sources.get(problem.file).map_or("", NamedSource::name);
            write!(f, "{name}:{}:{}: {}", problem.line, problem.column, problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read as text.
    #[error("cannot read the configuration {}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The file's content is wrong.
    #[error("{0}")]
    Invalid(Box<InvalidConfig>),
    /// A command-line option has a value that makes no sense.
    #[error("{option}: {problem}")]
    Option {
        /// The option, as typed.
        option: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// The whole error for a terminal: every problem with its source line underlined and what to do about it.
pub fn render(error: &ConfigError, color: bool) -> String {
    let ConfigError::Invalid(invalid) = error else {
        return format!("error: {error}\n");
    };
    let theme = if color { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() };
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(110);
    let mut text = String::new();
    for problem in &invalid.problems {
        let report = invalid.sources.get(problem.file).map(|source| Sourced { problem, source });
        let rendered = report.is_some_and(|report| handler.render_report(&mut text, &report).is_ok());
        if !rendered {
            text.push_str(&problem.message);
            text.push('\n');
        }
    }
    text
}

/// A problem together with the text its span points into.
#[derive(Debug)]
struct Sourced<'a> {
    problem: &'a Problem,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Sourced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Sourced<'_> {}

impl Diagnostic for Sourced<'_> {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), self.problem.span))))
    }
}
