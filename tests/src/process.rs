//! A process under watch: its lines as they come, its end within a bound, and the signals it is sent.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No step of a test may take longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a process has written so far.
#[derive(Default)]
struct Heard {
    stdout: Vec<String>,
    stderr: Vec<String>,
    streams_closed: usize,
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Condvar,
}

/// A running process; killed when dropped.
pub struct Running {
    child: Child,
    ear: Arc<Ear>,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Signals a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks to end.
    Terminate,
    /// Ends without warning.
    Kill,
}

/// Runs a command to its end, within [`PATIENCE`].
pub fn finish(command: Command) -> Ended {
    Running::start(command).finish()
}

impl Running {
    /// Starts a command and listens to both of its streams.
    pub fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let ear = Arc::new(Ear::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        listen(stdout.expect("piped"), ear.clone(), |heard| &mut heard.stdout);
        listen(stderr.expect("piped"), ear.clone(), |heard| &mut heard.stderr);
        Running { child, ear }
    }

    /// The first line of standard error that holds `part`, as soon as it is written.
    ///
    /// # Panics
    /// The process ends without it, or [`PATIENCE`] does.
    pub fn line_with(&self, part: &str) -> String {
        let found = self.wait(|heard| {
            let line = heard.stderr.iter().find(|line| line.contains(part)).cloned();
            if line.is_none() && heard.streams_closed == 2 { Some(None) } else { line.map(Some) }
        });
        match found {
            Some(Some(line)) => line,
            Some(None) => panic!("the process ended without a line with `{part}`:\n{}", self.stderr()),
            None => panic!("no line with `{part}` within {PATIENCE:?}:\n{}", self.stderr()),
        }
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Kill => self.child.kill().expect("a process of ours can be killed"),
            Signal::Terminate => {
                let id = self.child.id().to_string();
                let status = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &id]).status();
                assert!(status.expect("sh starts").success(), "process {id} cannot be signalled");
            }
        }
    }

    /// How the process ends.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub fn finish(self) -> Ended {
        self.finish_within(PATIENCE)
    }

    /// How the process ends.
    ///
    /// # Panics
    /// It does not end within `limit`.
    pub fn finish_within(mut self, limit: Duration) -> Ended {
        let closed = self.wait_for(limit, |heard| (heard.streams_closed == 2).then_some(()));
        assert!(closed.is_some(), "the process still runs after {limit:?}:\n{}", self.stderr());
        // Both streams are closed, so the process is about to end; it opens no others and starts no children.
        let status = self.child.wait().expect("a process of ours can be waited for");
        let heard = self.ear.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |lines: &[String]| lines.join("\n");
        let (stdout, stderr) = (text(&heard.stdout), text(&heard.stderr));
        Ended { code: status.code(), signal: status.signal(), stdout, stderr }
    }

    fn stderr(&self) -> String {
        self.ear.heard.lock().unwrap_or_else(PoisonError::into_inner).stderr.join("\n")
    }

    fn wait<T>(&self, look: impl Fn(&Heard) -> Option<T>) -> Option<T> {
        self.wait_for(PATIENCE, look)
    }

    fn wait_for<T>(&self, limit: Duration, look: impl Fn(&Heard) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut heard = self.ear.heard.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&heard) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            heard = self.ear.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(stream: impl Read + Send + 'static, ear: Arc<Ear>, side: fn(&mut Heard) -> &mut Vec<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            side(&mut ear.heard.lock().unwrap_or_else(PoisonError::into_inner)).push(line);
            ear.news.notify_all();
            bytes.clear();
        }
        ear.heard.lock().unwrap_or_else(PoisonError::into_inner).streams_closed += 1;
        ear.news.notify_all();
    });
}
