//! The `holdfast` program: reads the command line, carries the command out, says how it went.

use clap::Parser;
use holdfast::cli::{Cli, Command, ConfigCommand, MemoCommand, exit};
use holdfast::config::{ConfigError, render, schema, template};
use holdfast::memo::MemoStore;
use holdfast::run::{Inspection, RunError, compare, evaluate, plan, quantize, verify, with_causes, worker};
use holdfast::terminal::start_logging;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Threads of the runtime: it moves messages, kernels have threads of their own.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(failure) = start_logging(cli.log_filter()) {
        eprintln!("{}", with_causes(&failure));
        return ExitCode::from(exit::CONFIGURATION);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("holdfast")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(carry_out(cli.command));
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(failure) => {
            error!("start the runtime: {failure}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

async fn carry_out(command: Command) -> u8 {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone());
    let outcome = match command {
        Command::Quantize(args) => match args.run_config() {
            Ok(config) => quantize(config, stop).await,
            Err(failure) => return refuse(&failure),
        },
        Command::Evaluate(args) => match args.run_config() {
            Ok(config) => evaluate(config, stop).await.map(|text| (exit::SUCCESS, text)),
            Err(failure) => return refuse(&failure),
        },
        Command::Verify(args) => match args.verify_config() {
            Ok(config) => verify(config, stop).await,
            Err(failure) => return refuse(&failure),
        },
        Command::Plan(args) => match args.run_config() {
            Ok(config) => plan(config, stop).await.map(|text| (exit::SUCCESS, text)),
            Err(failure) => return refuse(&failure),
        },
        Command::Worker(args) => worker(&args, stop).await.map(|()| (exit::SUCCESS, String::new())),
        Command::Config { command: ConfigCommand::Template { full, format } } => {
            Ok((exit::SUCCESS, template(format, full)))
        }
        Command::Config { command: ConfigCommand::Schema } => Ok((exit::SUCCESS, format!("{:#}\n", schema()))),
        Command::Inspect(args) => match Inspection::new(&args) {
            Ok(inspection) => inspection.show().map(|text| (exit::SUCCESS, text)),
            Err(failure) => return refuse(&failure),
        },
        Command::Compare(args) => compare(&args).map(|text| (exit::SUCCESS, text)),
        Command::Memo { command: MemoCommand::Stat { state_dir } } => {
            MemoStore::stat(&state_dir).map(|text| (exit::SUCCESS, text)).map_err(RunError::from)
        }
    };
    match outcome {
        Ok((code, text)) => {
            print!("{text}");
            code
        }
        Err(failure) if failure.is_stopped() => {
            warn!("stopped; the same command goes on where this run was");
            exit::FAILURE
        }
        Err(failure) => {
            error!("{}", with_causes(&failure));
            failure.exit_code()
        }
    }
}

/// The first interrupt or termination asks everything to end in order; the second ends the process.
fn stop_on_signals(stop: CancellationToken) {
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            warn!("signals cannot be listened to; stop the process by force");
            return;
        };
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked {
                std::process::exit(i32::from(exit::FAILURE));
            }
            asked = true;
            warn!("stopping; once more to stop at once");
            stop.cancel();
        }
    });
}

fn refuse(failure: &ConfigError) -> u8 {
    eprintln!("{}", render(failure, std::io::stderr().is_terminal()));
    exit::CONFIGURATION
}
