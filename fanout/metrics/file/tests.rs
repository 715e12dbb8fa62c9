//! The file among others: whole, readable, and gone when it should be.

use std::{
    env,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, SystemTime},
};

use super::{
    super::{InterfaceSample, Reload},
    *,
};
use crate::link::Losses;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("fanout-metrics-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn snapshot(started: SystemTime) -> Snapshot<'static> {
    Snapshot {
        started,
        reload: Reload {
            successful: true,
            last_success: started,
        },
        listeners: Vec::new(),
        queues: Vec::new(),
        interfaces: Vec::new(),
        redirects: Vec::new(),
    }
}

fn text(snapshot: &Snapshot<'_>) -> String {
    let mut text = String::new();
    render(snapshot, &mut text);
    text
}

#[test]
fn writes_replaces_and_removes() {
    let folder = Folder::new("replace");
    let path = folder.join("fanout.prom");
    let mut file = MetricsFile::new(path.clone());
    assert_eq!(folder.names(), [""; 0], "nothing before the first update");
    for started in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
        let snapshot = snapshot(started);
        file.update(&snapshot);
        assert_eq!(fs::read_to_string(&path).unwrap(), text(&snapshot));
        assert_eq!(folder.names(), ["fanout.prom"]);
    }
    file.remove().unwrap();
    assert_eq!(folder.names(), [""; 0]);
}

/// A text of many series goes on being written, only more seldom: `fanout status` takes an old one for the end.
#[test]
fn a_long_text_of_the_last_second_is_written_each_third_time() {
    let folder = Folder::new("long");
    let path = folder.join("fanout.prom");
    let name = "a".repeat(LONG);
    let long = |started| Snapshot {
        interfaces: vec![InterfaceSample {
            name: &name,
            losses: Losses::default(),
        }],
        ..snapshot(started)
    };
    let mut file = MetricsFile::new(path.clone());
    let mut seen = Vec::new();
    for second in 0..7 {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        file.update(&long(started));
        if file.is_due() {
            file.update_now(&long(started));
        }
        let is_new = fs::read_to_string(now(&path)).unwrap() == text(&long(started));
        seen.push(is_new);
        // The collector's is another matter.
        assert_eq!(fs::read_to_string(&path).unwrap(), text(&long(started)));
    }
    assert_eq!(seen, [true, false, false, true, false, false, true]);

    // A reload made it short again.
    for is_now in [false, false, true, true] {
        let short = snapshot(SystemTime::now());
        if file.is_due() {
            file.update_now(&short);
        }
        assert_eq!(
            fs::read_to_string(now(&path)).unwrap() == text(&short),
            is_now
        );
    }
    file.remove().unwrap();
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn readers_see_whole_files() {
    let folder = Folder::new("whole");
    let path = folder.join("fanout.prom");
    let snapshots = [SystemTime::UNIX_EPOCH, SystemTime::now()].map(snapshot);
    let texts = snapshots.each_ref().map(text);
    let mut file = MetricsFile::new(path.clone());
    file.update(&snapshots[0]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                for snapshot in &snapshots {
                    file.update(snapshot);
                }
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            assert!(texts.contains(&fs::read_to_string(&path).unwrap()));
        }
    });
}

#[test]
fn everybody_may_read() {
    let folder = Folder::new("mode");
    let path = folder.join("fanout.prom");
    MetricsFile::new(path.clone()).update(&snapshot(SystemTime::now()));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

/// The umask is the whole process's, so the test above runs again in one of its own.
#[test]
fn everybody_may_read_whatever_the_umask() {
    let output = Command::new("sh")
        .args(["-c", "umask 077 && exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "metrics::file::tests::everybody_may_read"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn what_a_killed_process_left_goes() {
    let folder = Folder::new("stale");
    let left = folder.join(".fanout.prom.tmp");
    let path = folder.join("fanout.prom");
    let mut file = MetricsFile::new(path.clone());
    let snapshot = snapshot(SystemTime::now());

    fs::write(&left, "half a li").unwrap();
    file.update(&snapshot);
    assert_eq!(folder.names(), ["fanout.prom"]);

    // Nor is a link of that name followed.
    let other = folder.join("other");
    fs::write(&other, "not ours").unwrap();
    std::os::unix::fs::symlink(&other, &left).unwrap();
    file.update(&snapshot);
    assert_eq!(fs::read_to_string(&other).unwrap(), "not ours");
    assert_eq!(fs::read_to_string(&path).unwrap(), text(&snapshot));
    assert_eq!(folder.names(), ["fanout.prom", "other"]);
}

#[test]
fn a_failure_is_kept_in_mind_until_it_is_over() {
    let folder = Folder::new("failure");
    let inner = folder.join("not-yet");
    let mut file = MetricsFile::new(inner.join("fanout.prom"));
    let snapshot = snapshot(SystemTime::now());
    for _ in 0..2 {
        file.update(&snapshot);
        assert!(file.failing);
    }
    fs::create_dir(&inner).unwrap();
    file.update(&snapshot);
    assert!(!file.failing);
    assert!(inner.join("fanout.prom").exists());
    fs::remove_dir_all(&inner).unwrap();
    file.remove().expect("nothing there to remove");
}

#[test]
fn a_failed_rename_leaves_nothing_behind() {
    let folder = Folder::new("rename");
    let path = folder.join("fanout.prom");
    fs::create_dir(&path).unwrap();
    let mut file = MetricsFile::new(path);
    file.update(&snapshot(SystemTime::now()));
    assert!(file.failing);
    assert_eq!(folder.names(), ["fanout.prom"]);
}
