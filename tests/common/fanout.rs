//! The program under test: the real binary with a real config file, in a namespace.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{metrics::Metrics, namespace::Namespace, sys};

/// Far longer than anything takes: running out of it means "never".
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(2);

/// A running fanout; killed on drop.
#[derive(Debug)]
pub struct Fanout {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    folder: Folder,
    started: Instant,
}

impl Fanout {
    /// Starts it with the sections of `config`, and a `[fanout]` section before them, and waits until
    /// it is ready. Keys before the first section of `config` go into `[fanout]`.
    pub fn start(namespace: &Namespace, config: &str) -> Self {
        let fanout = Self::spawn(namespace, config);
        fanout.wait_for_log(" ready ");
        fanout
    }

    /// Starts it and waits for nothing.
    pub fn spawn(namespace: &Namespace, config: &str) -> Self {
        Self::spawn_as(config, |_| namespace.command(binary()))
    }

    /// Starts it by a command of one's own, to which `-c FILE` is added, and waits until it is ready.
    /// The command is told the folder of the config and the metrics file.
    pub fn start_as(config: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let fanout = Self::spawn_as(config, command);
        fanout.wait_for_log(" ready ");
        fanout
    }

    /// The same, and waits for nothing.
    pub fn spawn_as(config: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let folder = Folder::new();
        fs::write(folder.path("config.ini"), whole(&folder, config)).expect("config");
        let started = Instant::now();
        let mut child = command(&folder.0)
            .arg("-c")
            .arg(folder.path("config.ini"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the test, which then stops it.
            .process_group(0)
            .spawn()
            .expect("fanout");
        let log = Arc::<Mutex<Vec<String>>>::default();
        let stderr = child.stderr.take().expect("piped");
        let reader = Some(collect(stderr, Arc::clone(&log)));
        Self {
            child,
            log,
            reader,
            folder,
            started,
        }
    }

    /// Gives it another config, of the same form as [`start`](Self::start)'s, and waits for what it makes of it.
    pub fn reload(&self, config: &str) -> Reloaded {
        self.reload_whole(&whole(&self.folder, config))
    }

    /// The same with a config that nothing is added to.
    pub fn reload_whole(&self, config: &str) -> Reloaded {
        let done = || {
            let log = self.log.lock().expect("the log");
            let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
            [count(" reloaded "), count(" reload refused")]
        };
        let before = done();
        fs::write(self.config(), config).expect("config");
        self.signal(libc::SIGHUP);
        let answer = wait_for(|| match (before, done()) {
            ([before, _], [now, _]) if now > before => Some(Reloaded::Done),
            ([_, before], [_, now]) if now > before => Some(Reloaded::Refused),
            _ => None,
        });
        answer.unwrap_or_else(|| panic!("no reload:\n{}", self.log()))
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path("config.ini")
    }

    /// The metrics file.
    pub fn metrics_file(&self) -> PathBuf {
        self.folder.path("fanout.prom")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// The events of a level, such as `WARN`: lines without their time.
    pub fn logged(&self, level: &str) -> Vec<String> {
        let log = self.log.lock().expect("the log");
        let events = log.iter().map(|line| event(line));
        let of_level = events.filter(|event| event.split(' ').next() == Some(level));
        of_level.map(str::to_owned).collect()
    }

    /// Waits for a line with `part`; returns the first one.
    pub fn wait_for_log(&self, part: &str) -> String {
        let line = || {
            let log = self.log.lock().expect("the log");
            log.iter()
                .find(|line| format!("{line} ").contains(part))
                .cloned()
        };
        wait_for(line).unwrap_or_else(|| panic!("no {part:?} in the log:\n{}", self.log()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        sys::signal(&self.child, signal).expect("kill");
    }

    /// Has it write the metrics now, and reads them.
    pub fn metrics(&self) -> Metrics {
        let text = self.written_now();
        Metrics::parse(text.unwrap_or_else(|| panic!("no metrics file; the log:\n{}", self.log())))
    }

    fn written_now(&self) -> Option<String> {
        let path = self.metrics_file();
        let _ = fs::remove_file(&path);
        sys::signal(&self.child, libc::SIGUSR1).ok()?;
        wait_for(|| fs::read_to_string(&path).ok())
    }

    /// The metrics once `listener` is at rest: received `count`, and each forwarded or dropped.
    pub fn metrics_at_rest(&self, listener: &str, count: u64) -> Metrics {
        self.metrics_when(listener, |metrics| metrics.received(listener) == count)
    }

    /// The metrics once `listener` forwarded or dropped all that it received.
    pub fn metrics_balanced(&self, listener: &str) -> Metrics {
        self.metrics_when(listener, |_| true)
    }

    /// The metrics once they are `enough`, and `listener` forwarded or dropped all that it received.
    pub fn metrics_when(&self, listener: &str, enough: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = String::new();
        let at_rest = wait_for(|| {
            let metrics = self.metrics();
            let done = metrics.forwarded(listener) + metrics.dropped(listener);
            last.clone_from(&metrics.text);
            (enough(&metrics) && metrics.received(listener) == done).then_some(metrics)
        });
        at_rest.unwrap_or_else(|| panic!("{listener} does not balance:\n{last}\n{}", self.log()))
    }

    /// Resident memory without the pages of the program's file, in bytes.
    pub fn resident(&self) -> u64 {
        let status = self.proc("status");
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        (kilobytes("RssAnon:") + kilobytes("RssShmem:")) * 1024
    }

    /// CPU time used so far, user and system.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, after_name) = stat.rsplit_once(") ").expect("stat");
        let ticks = after_name.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|n| n.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 1000 / sys::clock_ticks())
    }

    /// The kernel's number of the thread called `name`.
    pub fn thread(&self, name: &str) -> i32 {
        let thread = thread_of(self.child.id(), name);
        thread.unwrap_or_else(|| panic!("no thread {name}:\n{}", self.log()))
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("a running fanout")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for(|| child.try_wait().expect("wait"));
        let status = status.unwrap_or_else(|| panic!("fanout does not end:\n{}", self.log()));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log's reader");
        }
        status
    }

    /// Stops it as an operator would; anything but exit status 0 and no metrics file is a failure.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.log());
        assert!(!self.metrics_file().exists(), "left its metrics file");
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("fanout's log:\n{}", self.log());
            let metrics = self.written_now().unwrap_or_default();
            let counts = metrics
                .lines()
                .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
            eprintln!(
                "fanout's counts:\n{}",
                counts.collect::<Vec<_>>().join("\n")
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it made of another config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It goes by it.
    Done,
    /// It goes on as before.
    Refused,
}

/// A config with its `[fanout]` section.
fn whole(folder: &Folder, config: &str) -> String {
    let metrics = folder.path("fanout.prom");
    format!(
        "[fanout]\nmetrics_file = {}\nmetrics_interval = 1s\n{config}",
        metrics.display()
    )
}

/// The kernel's number of the thread called `name` of a process.
pub fn thread_of(process: u32, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut named = tasks.flatten().filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named.next()?.file_name().to_str()?.parse().ok()
}

/// The binary that cargo built, or the one that `FANOUT_BINARY` names: the released one, say.
pub fn binary() -> OsString {
    env::var_os("FANOUT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_fanout").into())
}

fn collect(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.lock().expect("the log").push(line);
        }
    })
}

/// A line of the log without its time. What is said before the log begins has none.
pub fn event(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, event)) if is_time(time) => event,
        _ => line,
    }
}

/// Whether it is like `2026-01-31T23:59:59.999Z`.
fn is_time(word: &str) -> bool {
    let digits = word.replace(|c: char| c.is_ascii_digit(), "0");
    digits == "0000-00-00T00:00:00.000Z"
}

/// Asks until there is an answer, or [`PATIENCE`] runs out.
pub fn wait_for<T>(mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = answer();
        if found.is_some() || start.elapsed() > PATIENCE {
            return found;
        }
        thread::sleep(POLL);
    }
}

/// A folder for one test's files, removed on drop.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Makes one that every user may look into.
    pub fn public() -> Self {
        let name = Self::new().0.file_name().expect("a name").to_owned();
        let path = env::temp_dir().join("fanout-tests").join(name);
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self(path)
    }

    /// A file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
