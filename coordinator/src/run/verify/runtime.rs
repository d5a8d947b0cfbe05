//! An external runtime: a Python process that runs a model over arrays in a folder, a bounded chunk at a time.

use crate::cli::RuntimeArg;
use holdfast_common::graph::TensorData;
use ndarray::{ArrayD, ArrayViewD, Axis};
use ndarray_npy::{ReadNpyError, WritableElement, WriteNpyError, read_npy, write_npy};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// The program Python runs.
const SCRIPT: &str = include_str!("runtime.py");
/// Bytes an answer may have.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Bytes shown of what a process said before it ended unexpectedly.
const LAST_WORDS_BYTES: u64 = 2 << 10;

/// A model could not be run outside.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no Python.
    #[error("cannot start `{python}`; install Python 3, or name one with --python")]
    Python {
        /// What was started.
        python: String,
        /// Why it does not start.
        source: io::Error,
    },
    /// A package is not installed.
    #[error(
        "`{python}` has no package `{package}`; install it with `{python} -m pip install numpy {runtime}`, or name another \
         Python with --python"
    )]
    Package {
        /// The Python.
        python: String,
        /// What it cannot import.
        package: String,
        /// The runtime that was asked for.
        runtime: &'static str,
    },
    /// The runtime refused the model or a sample.
    #[error("{runtime} does not run the model: {problem}")]
    Refused {
        /// The runtime.
        runtime: &'static str,
        /// What it said.
        problem: String,
    },
    /// The process ended, or said what no answer is.
    #[error("the process of {runtime} ended: {last_words}")]
    Ended {
        /// The runtime.
        runtime: &'static str,
        /// The end of what it wrote to standard error.
        last_words: String,
    },
    /// What came out of it does not fit the model.
    #[error("{runtime} gave other outputs than the model has: {problem}")]
    Outputs {
        /// The runtime.
        runtime: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// The folder of arrays cannot be used.
    #[error("exchange arrays with {runtime}")]
    Exchange {
        /// The runtime.
        runtime: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An array cannot be written.
    #[error("write inputs for {runtime}")]
    Inputs {
        /// The runtime.
        runtime: &'static str,
        /// Why.
        source: WriteNpyError,
    },
    /// An array cannot be read.
    #[error("read the outputs of {runtime}")]
    Read {
        /// The runtime.
        runtime: &'static str,
        /// Why.
        source: ReadNpyError,
    },
}

impl RuntimeError {
    /// Whether something has to be installed or named otherwise.
    pub fn is_missing_software(&self) -> bool {
        matches!(self, RuntimeError::Python { .. } | RuntimeError::Package { .. })
    }
}

/// Ends the process from elsewhere.
#[derive(Clone, Default)]
pub struct Stopper(Arc<Mutex<Option<Child>>>);

impl Stopper {
    /// Ends the process, where one runs; whoever waits for its answer is told that it ended.
    pub fn stop(&self) {
        if let Some(mut child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A model in an external runtime; the process ends with it.
pub struct Runtime {
    name: &'static str,
    version: String,
    inputs: usize,
    outputs: usize,
    folder: TempDir,
    errors: File,
    stopper: Stopper,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

impl Runtime {
    /// Starts `python` and loads the model. `inputs` and `outputs` are the model's, by name and in its order.
    ///
    /// # Errors
    ///
    /// What is not installed, or why the runtime refuses the model.
    pub fn start(
        runtime: RuntimeArg,
        python: &str,
        model: &Path,
        inputs: &[String],
        outputs: &[String],
        stopper: Stopper,
    ) -> Result<Runtime, RuntimeError> {
        let name = runtime.package();
        let exchange = |source| RuntimeError::Exchange { runtime: name, source };
        let folder = tempfile::Builder::new().prefix("holdfast-verify-").tempdir().map_err(exchange)?;
        let errors = tempfile::tempfile().map_err(exchange)?;
        let mut child = Command::new(python)
            .arg("-c")
            .arg(SCRIPT)
            .arg(name)
            .arg(std::path::absolute(model).map_err(exchange)?)
            .arg(folder.path())
            .arg(json!({ "inputs": inputs, "outputs": outputs }).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(exchange)?)
            .spawn()
            .map_err(|source| RuntimeError::Python { python: python.to_owned(), source })?;
        let pipes = (child.stdin.take(), child.stdout.take());
        *stopper.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let (Some(requests), Some(answers)) = pipes else {
            return Err(exchange(io::Error::other("the process has no pipes")));
        };
        let answers = BufReader::new(answers);
        let (inputs, outputs) = (inputs.len(), outputs.len());
        let version = String::new();
        let mut runtime = Runtime { name, version, inputs, outputs, folder, errors, stopper, requests, answers };
        let answer = runtime.answer(python)?;
        answer["version"].as_str().unwrap_or("of unknown version").clone_into(&mut runtime.version);
        Ok(runtime)
    }

    /// Name and version, for people.
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Runs samples, given by their inputs in model order, one at a time; returns their outputs.
    ///
    /// # Errors
    ///
    /// The runtime fails, or its outputs do not go with the model's.
    pub fn run(&mut self, samples: &[&[TensorData]]) -> Result<Vec<Vec<ArrayD<f32>>>, RuntimeError> {
        let runtime = self.name;
        for input in 0..self.inputs {
            let rows: Vec<&TensorData> = samples.iter().filter_map(|sample| sample.get(input)).collect();
            let path = self.folder.path().join(format!("input_{input}.npy"));
            write(&path, &rows).map_err(|source| RuntimeError::Inputs { runtime, source })?;
        }
        // A process that has ended is told by the missing answer.
        let _ = writeln!(self.requests, "{}", samples.len()).and_then(|()| self.requests.flush());
        self.answer("")?;
        let mut results: Vec<Vec<ArrayD<f32>>> = vec![Vec::with_capacity(self.outputs); samples.len()];
        for output in 0..self.outputs {
            let path: PathBuf = self.folder.path().join(format!("output_{output}.npy"));
            let all: ArrayD<f32> = read_npy(path).map_err(|source| RuntimeError::Read { runtime, source })?;
            if all.shape().first() != Some(&samples.len()) {
                let problem = format!("shape {:?} for {} samples", all.shape(), samples.len());
                return Err(RuntimeError::Outputs { runtime, problem });
            }
            for (result, values) in results.iter_mut().zip(all.outer_iter()) {
                result.push(values.to_owned());
            }
        }
        Ok(results)
    }

    /// The next answer, unless it says that something is missing or has failed.
    fn answer(&mut self, python: &str) -> Result<Value, RuntimeError> {
        let mut line = String::new();
        let read = (&mut self.answers).take(ANSWER_BYTES_MAX).read_line(&mut line);
        let answer = read.ok().and_then(|_| serde_json::from_str::<Value>(&line).ok());
        let Some(answer) = answer else {
            return Err(RuntimeError::Ended { runtime: self.name, last_words: self.last_words() });
        };
        if let Some(package) = answer["missing"].as_str() {
            let (python, package) = (python.to_owned(), package.to_owned());
            return Err(RuntimeError::Package { python, package, runtime: self.name });
        }
        match answer["failed"].as_str() {
            Some(problem) => Err(RuntimeError::Refused { runtime: self.name, problem: problem.to_owned() }),
            None => Ok(answer),
        }
    }

    fn last_words(&mut self) -> String {
        let length = self.errors.seek(SeekFrom::End(0)).unwrap_or(0);
        let mut bytes = Vec::new();
        let start = self.errors.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)));
        let read = start.and_then(|_| (&mut self.errors).take(LAST_WORDS_BYTES).read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if read.is_err() || text.is_empty() { "it said nothing".to_owned() } else { text }
    }
}

/// One array of all rows, each with a leading axis of length 1; all are of one type and shape.
fn write(path: &Path, rows: &[&TensorData]) -> Result<(), WriteNpyError> {
    fn stacked<'a, T: WritableElement + Clone + 'a>(
        path: &Path,
        rows: impl Iterator<Item = Option<&'a ArrayD<T>>>,
    ) -> Result<(), WriteNpyError> {
        let views: Vec<ArrayViewD<'_, T>> = rows.flatten().map(|row| row.view()).collect();
        let all = ndarray::concatenate(Axis(0), &views).map_err(|error| WriteNpyError::Io(io::Error::other(error)))?;
        write_npy(path, &all)
    }
    let rows = rows.iter().copied();
    macro_rules! stack {
        ($variant:ident) => {
            stacked(path, rows.map(|row| if let TensorData::$variant(array) = row { Some(array) } else { None }))
        };
    }
    match rows.clone().next() {
        None => Ok(()),
        Some(TensorData::F32(_)) => stack!(F32),
        Some(TensorData::I64(_)) => stack!(I64),
        Some(TensorData::I32(_)) => stack!(I32),
        Some(TensorData::U8(_)) => stack!(U8),
        Some(TensorData::I8(_)) => stack!(I8),
        Some(TensorData::Bool(_)) => stack!(Bool),
    }
}
