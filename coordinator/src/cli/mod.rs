//! The command line of `holdfast`: what can be typed, and how it becomes one validated run.
//!
//! Never here: carrying a command out.

mod request;
#[cfg(test)]
mod tests;
mod values;
mod words;

pub use values::{Extent, ResizeTo};
pub use words::{DropTypeArg, GranularityArg, ModeArg, PresetArg, StrategyArg};

use crate::config::{ConfigError, RunRequest, TemplateFormat};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Exit codes of the program.
pub mod exit {
    /// The goal is met, or there was none.
    pub const SUCCESS: u8 = 0;
    /// Something failed while running.
    pub const FAILURE: u8 = 1;
    /// The command line or the configuration is wrong; nothing was run.
    pub const CONFIGURATION: u8 = 2;
    /// The goal is not met; the best model is saved. `--goal-missed-exit-code` changes it.
    pub const GOAL_MISSED: u8 = 3;
}

/// Quantizes ONNX models to int8 without losing more accuracy than allowed, on one machine or many.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, infer_subcommands = false)]
pub struct Cli {
    /// What is logged: error, warn, info, debug or trace, or POT's words; also per module as `holdfast=debug,tonic=warn`
    #[arg(long, global = true, env = "HOLDFAST_LOG", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What is to be logged: `--progress-bar` leaves the terminal to the bars.
    pub fn log_filter(&self) -> &str {
        let bars_only = match &self.command {
            Command::Quantize(args) => args.cluster.progress_bar,
            Command::Evaluate(args) => args.cluster.progress_bar,
            Command::Plan(args) => args.cluster.progress_bar,
            Command::Worker(_)
            | Command::Verify(_)
            | Command::Config { .. }
            | Command::Inspect(_)
            | Command::Compare(_)
            | Command::Memo { .. } => false,
        };
        if bars_only { "error" } else { &self.log_level }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Quantize a model within an accuracy goal
    Quantize(Box<QuantizeArgs>),
    /// Measure the float model on the validation data
    Evaluate(Box<EvaluateArgs>),
    /// Run a quantized model in ONNX Runtime or OpenVINO and compare with what its report promised
    Verify(Box<VerifyArgs>),
    /// Say how many evaluations a run would take, and about how long
    Plan(Box<PlanArgs>),
    /// Compute for a coordinator on another machine
    Worker(WorkerArgs),
    /// Write a configuration to begin with, or the schema of configurations
    Config {
        /// What to write.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show a model's operations, what would be quantized and why the rest would not
    Inspect(InspectArgs),
    /// Set two runs side by side
    Compare(CompareArgs),
    /// Look at stored results
    Memo {
        /// What to show.
        #[command(subcommand)]
        command: MemoCommand,
    },
}

/// What can be asked of the memo store.
#[derive(Debug, Subcommand)]
pub enum MemoCommand {
    /// Show how many results are stored, and for what
    Stat {
        /// Directory of the memo store
        #[arg(long, env = "HOLDFAST_STATE_DIR", value_name = "DIR")]
        state_dir: PathBuf,
    },
}

/// What can be written about configurations.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// A commented configuration
    Template {
        /// Every key with its default, not only the usual ones
        #[arg(long)]
        full: bool,
        /// Language of the file
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: TemplateFormat,
    },
    /// The JSON Schema, for editors
    Schema,
}

/// `holdfast inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Float ONNX model
    #[arg(value_name = "MODEL", required_unless_present = "config")]
    pub model: Option<PathBuf>,
    /// Configuration whose model and parameters are meant
    #[arg(short, long, value_name = "FILE", conflicts_with = "model")]
    pub config: Option<PathBuf>,
    /// Extents of an input whose axes the model leaves free, such as input_ids=1x128; repeatable
    #[arg(long, value_name = "INPUT=AxBxC", value_parser = values::parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `holdfast compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Output directory of one run, or its report.json
    #[arg(value_name = "RUN")]
    pub first: PathBuf,
    /// Output directory of another run, or its report.json
    #[arg(value_name = "RUN")]
    pub second: PathBuf,
}

/// `holdfast quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// Model and data.
    #[command(flatten)]
    pub input: InputArgs,
    /// How to quantize.
    #[command(flatten)]
    pub method: MethodArgs,
    /// Directory of the results (default: `results/<model>_<algorithm>`)
    #[arg(long, env = "HOLDFAST_OUTPUT_DIR", value_name = "DIR", help_heading = "Results")]
    pub output_dir: Option<PathBuf>,
    /// Afterwards print the metrics of the written model on the whole validation data
    #[arg(short, long, help_heading = "Results")]
    pub evaluate: bool,
    /// Write to `results` itself where there is no --output-dir
    #[arg(short, long, help_heading = "Results")]
    pub direct_dump: bool,
    /// Refused: the exported model has its weights in int8
    #[arg(long, hide = true)]
    pub keep_uncompressed_weights: bool,
    /// Exit code where the goal is missed and the best model is saved
    #[arg(long, env = "HOLDFAST_GOAL_MISSED_EXIT_CODE", default_value_t = exit::GOAL_MISSED, value_name = "CODE", help_heading = "Results")]
    pub goal_missed_exit_code: u8,
    /// Who computes.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `holdfast evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Model and data.
    #[command(flatten)]
    pub input: InputArgs,
    /// Who computes.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `holdfast verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Output directory of the run to verify, or its report.json
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,
    /// Model and data, as the run was given them; the model that is run is the one in RESULTS.
    #[command(flatten)]
    pub input: InputArgs,
    /// Where the model is run
    #[arg(long, value_enum, default_value_t = RuntimeArg::Onnxruntime, value_name = "NAME", help_heading = "Verification")]
    pub runtime: RuntimeArg,
    /// Python that has the runtime and numpy installed
    #[arg(
        long,
        env = "HOLDFAST_PYTHON",
        default_value = "python3",
        value_name = "PROGRAM",
        help_heading = "Verification"
    )]
    pub python: String,
    /// Only the first N validation samples
    #[arg(long, value_name = "N", help_heading = "Verification")]
    pub subset: Option<NonZeroUsize>,
    /// How far a metric may be off [default: 0.001 or one sample, of metrics above 1 that share]
    #[arg(long, value_name = "X", value_parser = values::parse_finite, help_heading = "Verification")]
    pub tolerance: Option<f64>,
    /// Threads this program computes with [default: all cores]
    #[arg(long, env = "HOLDFAST_THREADS", value_name = "N", help_heading = "Verification")]
    pub threads: Option<NonZeroUsize>,
    /// Progress bars: auto draws them on a terminal, never writes log lines
    #[arg(long, env = "HOLDFAST_PROGRESS", default_value = "auto", value_name = "WHEN", help_heading = "Verification")]
    pub progress: ProgressArg,
}

/// Runtimes a model can be verified in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeArg {
    /// ONNX Runtime.
    Onnxruntime,
    /// OpenVINO.
    Openvino,
}

impl RuntimeArg {
    /// The Python package, which is also its name for people.
    pub fn package(self) -> &'static str {
        match self {
            RuntimeArg::Onnxruntime => "onnxruntime",
            RuntimeArg::Openvino => "openvino",
        }
    }
}

/// One verification: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyConfig {
    /// Output directory of the run, or its report.
    pub results: PathBuf,
    /// Data, preprocessing and metrics; where results go means nothing here.
    pub run: RunConfig,
    /// Where the model is run.
    pub runtime: RuntimeArg,
    /// The Python that has it.
    pub python: String,
    /// So many of the first validation samples; `None`: all.
    pub subset: Option<NonZeroUsize>,
    /// How far a metric may be off; `None`: a tenth of a point or one sample.
    pub tolerance: Option<f64>,
}

/// `holdfast plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Model and data.
    #[command(flatten)]
    pub input: InputArgs,
    /// How to quantize.
    #[command(flatten)]
    pub method: MethodArgs,
    /// Who computes.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `holdfast worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Address of the coordinator, such as http://10.0.0.1:7077
    #[arg(long, env = "HOLDFAST_CONNECT", value_name = "URL", value_parser = values::parse_url)]
    pub connect: String,
    /// Threads to compute with [default: all cores]
    #[arg(long, env = "HOLDFAST_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Directory for fetched models and samples [default: a temporary one]
    #[arg(long, env = "HOLDFAST_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// Flags that describe data and preprocessing one by one.
const OWN_DATA: [&str; 12] = [
    "data",
    "labels",
    "calibration_data",
    "metric",
    "resize",
    "resize_filter",
    "crop",
    "bgr",
    "grayscale",
    "scale",
    "mean",
    "std",
];

/// Model and data: a configuration file, or flags that say the same.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and data")]
pub struct InputArgs {
    /// Configuration file in the format of OpenVINO's Post-training Optimization Tool
    #[arg(short, long, value_name = "FILE", conflicts_with_all = [
        "model", "weights", "name", "ac_config", "engine", "data_source", "data", "labels", "calibration_data", "metric", "resize", "resize_filter", "crop", "bgr",
        "grayscale", "scale", "mean", "std",
    ])]
    pub config: Option<PathBuf>,
    /// Float ONNX model
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    pub model: Option<PathBuf>,
    /// Refused: an ONNX model carries its weights
    #[arg(short, long, value_name = "FILE", hide = true)]
    pub weights: Option<PathBuf>,
    /// Name of the model in files and reports [default: from the file name]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Validation data: a folder of images, one sub-folder a class, or an .npy array
    #[arg(long, value_name = "PATH", required_unless_present_any = ["config", "ac_config", "data_source", "engine"])]
    pub data: Option<PathBuf>,
    /// Evaluation file of accuracy-checker: data, preprocessing and metrics
    #[arg(long, value_name = "FILE", conflicts_with_all = OWN_DATA)]
    pub ac_config: Option<PathBuf>,
    /// simplified: images without labels, for --quantize default
    #[arg(long, value_name = "NAME", conflicts_with_all = OWN_DATA)]
    pub engine: Option<EngineArg>,
    /// Images of the simplified engine: a folder, a pattern with *, or a .txt list
    #[arg(long, value_name = "PATH", conflicts_with_all = OWN_DATA, conflicts_with = "ac_config")]
    pub data_source: Option<PathBuf>,
    /// Truth: an .npy array of class indices or target values, or a text file of lines `file index`
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Calibration data [default: the validation data]
    #[arg(long, value_name = "PATH")]
    pub calibration_data: Option<PathBuf>,
    /// Metric that must hold: accuracy@topK, f1, precision, recall, mcc, mse, rmse, mae, cosine_similarity (default: accuracy@top1)
    #[arg(long)]
    pub metric: Option<String>,
    /// Resize images: N makes the shorter side N pixels long, HxW makes them exactly so large
    #[arg(long, value_name = "N|HxW")]
    pub resize: Option<ResizeTo>,
    /// Filter for --resize [default: pillow-bilinear]
    #[arg(long, value_name = "FILTER")]
    pub resize_filter: Option<FilterArg>,
    /// Cut the middle of images: N pixels square, or HxW
    #[arg(long, value_name = "N|HxW")]
    pub crop: Option<Extent>,
    /// Feed channels blue first instead of red first
    #[arg(long, conflicts_with = "grayscale")]
    pub bgr: bool,
    /// Feed images as one channel
    #[arg(long)]
    pub grayscale: bool,
    /// Divide values by this before --mean and --std; 255 gives the range 0 to 1 [default: 1]
    #[arg(long, value_name = "X")]
    pub scale: Option<f32>,
    /// Subtract this, or these, one per channel
    #[arg(long, value_name = "X,...", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f32>,
    /// Divide by this, or these, one per channel, after --mean
    #[arg(long, value_name = "X,...", value_delimiter = ',')]
    pub std: Vec<f32>,
}

/// How to quantize; all but --max-drop and --mode belong in the configuration file where there is one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Method")]
pub struct MethodArgs {
    /// accuracy-aware reverts to float what costs too much; default quantizes everything [default: accuracy-aware]
    #[arg(short = 'q', long, visible_alias = "quantize", value_name = "NAME", conflicts_with = "config")]
    pub algorithm: Option<AlgorithmArg>,
    /// Largest drop of the metric allowed; replaces the configuration's maximal_drop [default: 0.01]
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = values::parse_finite)]
    pub max_drop: Option<f64>,
    /// Whether the drop is a difference or a share of the float model's metric [default: absolute]
    #[arg(long, value_name = "TYPE", conflicts_with = "config")]
    pub drop_type: Option<DropTypeArg>,
    /// performance: symmetric activations; mixed: asymmetric ones [default: performance]
    #[arg(long, conflicts_with = "config")]
    pub preset: Option<PresetArg>,
    /// Scales of weights [default: perchannel]
    #[arg(long, value_name = "KIND", conflicts_with = "config")]
    pub weights_granularity: Option<GranularityArg>,
    /// Calibration samples [default: 300]
    #[arg(long, value_name = "N", conflicts_with = "config")]
    pub stat_subset_size: Option<NonZeroUsize>,
    /// Samples operations are ranked on [default: 300]
    #[arg(long, value_name = "N", conflicts_with = "config")]
    pub ranking_subset_size: Option<NonZeroUsize>,
    /// Rounds at most [default: no limit]
    #[arg(long, value_name = "N", conflicts_with = "config")]
    pub max_iter_num: Option<usize>,
    /// How the operations to revert are found; replaces the configuration's strategy [default: bisect]
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<StrategyArg>,
    /// default, or compat for POT's decisions with their flaws; replaces the configuration's mode [default: default]
    #[arg(long)]
    pub mode: Option<ModeArg>,
}

/// Algorithms by their short names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AlgorithmArg {
    /// AccuracyAwareQuantization.
    #[value(alias = "accuracy_aware")]
    AccuracyAware,
    /// DefaultQuantization.
    Default,
}

/// Resampling filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterArg {
    /// Pillow's antialiased bilinear.
    PillowBilinear,
    /// Pillow's antialiased bicubic.
    PillowBicubic,
    /// OpenCV's INTER_LINEAR.
    OpencvLinear,
}

/// Who computes, and where results are kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Computing")]
pub struct ClusterArgs {
    /// Directory of the memo store; a later run with the same one reuses its results [default: .holdfast beside the results]
    #[arg(long, env = "HOLDFAST_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Accept workers from other machines at this address, such as 0.0.0.0:7077
    #[arg(long, env = "HOLDFAST_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Workers inside this process; 0 leaves the work to workers that connect
    #[arg(long, env = "HOLDFAST_WORKERS", default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// Threads the workers inside this process share [default: all cores]
    #[arg(long, env = "HOLDFAST_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Progress bars: auto draws them on a terminal, never writes log lines
    #[arg(long, env = "HOLDFAST_PROGRESS", default_value = "auto", value_name = "WHEN")]
    pub progress: ProgressArg,
    /// Log errors only, beside the progress bars
    #[arg(long, conflicts_with = "progress")]
    pub progress_bar: bool,
    /// Write progress as lines
    #[arg(long, conflicts_with_all = ["progress", "progress_bar"])]
    pub stream_output: bool,
}

/// Engines of POT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum EngineArg {
    /// Labelled data, described by --ac-config.
    AccuracyChecker,
    /// Images without labels.
    Simplified,
}

/// When progress bars are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// On a terminal.
    Auto,
    /// Never; log lines instead.
    Never,
}

/// One run, fully described: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// What is asked.
    pub request: RunRequest,
    /// Where results are written.
    pub output_dir: PathBuf,
    /// Where the memo store lies.
    pub state_dir: PathBuf,
    /// Address for remote workers; `None`: none are accepted.
    pub listen: Option<SocketAddr>,
    /// Workers in this process; above 0 where `listen` is `None`.
    pub embedded_workers: usize,
    /// Threads these share; `None`: all cores.
    pub threads: Option<NonZeroUsize>,
    /// When progress bars are drawn.
    pub progress: ProgressArg,
    /// Exit code where the goal is missed.
    pub goal_missed_exit_code: u8,
    /// Whether the written model's metrics are printed.
    pub evaluate: bool,
}

/// Where results go by default.
const RESULTS: &str = "results";

/// Workers one process may hold; more only share the same cores.
const EMBEDDED_WORKERS_MAX: usize = 256;

impl QuantizeArgs {
    /// The run these arguments and the configuration file they may name describe.
    pub fn run_config(&self) -> Result<RunConfig, ConfigError> {
        let request = self.method.request(&self.input)?;
        let refuse = |option, problem: &str| Err(ConfigError::Option { option, problem: problem.to_owned() });
        if self.keep_uncompressed_weights {
            return refuse("--keep-uncompressed-weights", "is not there: the exported model holds int8 weights only");
        }
        if self.evaluate && request.validation.metrics.is_empty() {
            return refuse("--evaluate", "needs a metric and labels, which the data do not have");
        }
        let direct = self.direct_dump.then(|| PathBuf::from(RESULTS));
        let output_dir = self.output_dir.clone().or(direct);
        let config = self.cluster.run_config(request, output_dir, self.goal_missed_exit_code)?;
        Ok(RunConfig { evaluate: self.evaluate, ..config })
    }
}

impl EvaluateArgs {
    /// The run these arguments describe; its algorithm and output directory mean nothing here.
    pub fn run_config(&self) -> Result<RunConfig, ConfigError> {
        self.cluster.run_config(self.input.measured()?, None, exit::GOAL_MISSED)
    }
}

impl InputArgs {
    /// What is measured: of the configuration file, or of the flags in its place.
    fn measured(&self) -> Result<RunRequest, ConfigError> {
        let request = match &self.config {
            Some(path) => crate::config::load(path)?,
            None => request::from_flags(self, None)?,
        };
        let nothing = if request.validation.metrics.is_empty() {
            Some("the validation data set has no metric to measure")
        } else if request.annotation_free.is_some() {
            Some("`annotation_free` makes labels in a run only; name a configuration of labelled data")
        } else {
            None
        };
        if let Some(problem) = nothing {
            let problem = problem.to_owned();
            return Err(ConfigError::Option { option: "--config", problem });
        }
        Ok(request)
    }
}

impl VerifyArgs {
    /// The verification these arguments describe.
    pub fn verify_config(&self) -> Result<VerifyConfig, ConfigError> {
        if self.tolerance.is_some_and(|tolerance| tolerance < 0.0) {
            let problem = "should be 0 or more".to_owned();
            return Err(ConfigError::Option { option: "--tolerance", problem });
        }
        let alone = ClusterArgs {
            state_dir: None,
            listen: None,
            workers: 1,
            threads: self.threads,
            progress: self.progress,
            progress_bar: false,
            stream_output: false,
        };
        Ok(VerifyConfig {
            results: self.results.clone(),
            run: alone.run_config(self.input.measured()?, None, exit::GOAL_MISSED)?,
            runtime: self.runtime,
            python: self.python.clone(),
            subset: self.subset,
            tolerance: self.tolerance,
        })
    }
}

impl PlanArgs {
    /// The run these arguments describe.
    pub fn run_config(&self) -> Result<RunConfig, ConfigError> {
        let request = self.method.request(&self.input)?;
        self.cluster.run_config(request, None, exit::GOAL_MISSED)
    }
}

impl MethodArgs {
    /// Of the configuration file, or of the flags in its place.
    fn request(&self, input: &InputArgs) -> Result<RunRequest, ConfigError> {
        match &input.config {
            Some(path) => Ok(self.replace_in(crate::config::load(path)?)),
            None => request::from_flags(input, Some(self)),
        }
    }

    fn replace_in(&self, mut request: RunRequest) -> RunRequest {
        let parameters = &mut request.parameters;
        parameters.maximal_drop = self.max_drop.unwrap_or(parameters.maximal_drop);
        parameters.mode = self.mode.map_or(parameters.mode, Into::into);
        parameters.search.strategy = self.strategy.map_or(parameters.search.strategy, Into::into);
        request
    }
}

impl ClusterArgs {
    fn run_config(
        &self,
        request: RunRequest,
        output_dir: Option<PathBuf>,
        goal_missed_exit_code: u8,
    ) -> Result<RunConfig, ConfigError> {
        if self.workers == 0 && self.listen.is_none() {
            let problem = "0 workers here and none from elsewhere would compute nothing; add --listen ADDR".to_owned();
            return Err(ConfigError::Option { option: "--workers", problem });
        }
        if self.workers > EMBEDDED_WORKERS_MAX {
            let problem = format!("{} is more than {EMBEDDED_WORKERS_MAX}; one worker uses all cores", self.workers);
            return Err(ConfigError::Option { option: "--workers", problem });
        }
        let name = format!("{}_{}", request.model_name, request.algorithm.name());
        let output_dir = output_dir.unwrap_or_else(|| PathBuf::from(RESULTS).join(name));
        let beside = || output_dir.parent().unwrap_or(&output_dir).join(".holdfast");
        let state_dir = self.state_dir.clone().unwrap_or_else(beside);
        Ok(RunConfig {
            output_dir,
            state_dir,
            listen: self.listen,
            embedded_workers: self.workers,
            threads: self.threads.or(request.threads),
            request: request.settled(),
            progress: if self.stream_output { ProgressArg::Never } else { self.progress },
            goal_missed_exit_code,
            evaluate: false,
        })
    }
}
