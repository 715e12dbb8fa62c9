//! The command line → what to do. Raw flags only: whether the config is good is for `config.rs`.

use std::{ffi::OsString, path::PathBuf};

use lexopt::Arg::{Long, Short, Value};

/// What `fanout --version` prints.
pub const VERSION: &str = concat!("fanout ", env!("CARGO_PKG_VERSION"));

/// What `fanout --help` prints: a screen.
pub const HELP: &str = "\
fanout spreads UDP datagrams, not flows: it takes those sent to an address and
port of an interface, and sends each one to one of several receivers, in turn.

Usage:
  fanout -c FILE                            run until SIGTERM or SIGINT
  fanout check -c FILE [--json]             say what would happen on this host
  fanout status -c FILE [--watch] [--json]  show what the running one counts

Options:
  -c, --config FILE  the config; config.ini in the source explains every key
      --json         for machines
      --watch        again each second
  -h, --help, -V, --version

Signals: SIGHUP reads the config again (a wrong one is refused), SIGUSR1 writes
the metrics file now, SIGTERM and SIGINT stop.

Exit status: 0 done; 1 could not run or stopped on a fault (check: something
would fail; status: nothing runs); 2 wrong usage or wrong config.

Needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON, and
CAP_IPC_LOCK or a high limit on locked memory. Logs to stderr.
";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run in the foreground.
    Run {
        /// The config file.
        config: PathBuf,
    },
    /// Look at the host.
    Check {
        /// The config file.
        config: PathBuf,
        /// Whether a machine is to read the answer.
        json: bool,
    },
    /// Show what the running instance counts.
    Status {
        /// The config file.
        config: PathBuf,
        /// Again each second.
        watch: bool,
        /// Whether a machine is to read the answer.
        json: bool,
    },
    /// Print [`HELP`].
    Help,
    /// Print [`VERSION`].
    Version,
}

/// Reads the arguments, without the program's own name.
///
/// # Errors
/// Wrong usage, in words for the user.
pub fn parse<I>(args: I) -> Result<Command, lexopt::Error>
where
    I: IntoIterator<Item = OsString>,
{
    let mut args = lexopt::Parser::from_args(args);
    let (mut config, mut word, mut json, mut watch) = (None, None, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('c') | Long("config") => {
                let file = args.value()?;
                if file.is_empty() {
                    return Err("the config file's name is empty".into());
                }
                if config.replace(PathBuf::from(file)).is_some() {
                    return Err("more than one config file is given".into());
                }
            }
            Long("json") => json = true,
            Long("watch") => watch = true,
            Value(value) => match value.to_str() {
                Some("check") if word.is_none() => word = Some(Word::Check),
                Some("status") if word.is_none() => word = Some(Word::Status),
                _ => {
                    let value = value.display();
                    return Err(format!("unexpected '{value}': the config is -c FILE").into());
                }
            },
            other => return Err(other.unexpected()),
        }
    }
    let config = config.ok_or("no config file is given: -c FILE")?;
    match word {
        Some(Word::Status) => Ok(Command::Status {
            config,
            watch,
            json,
        }),
        _ if watch => Err("--watch is for status".into()),
        Some(Word::Check) => Ok(Command::Check { config, json }),
        None if json => Err("--json is for check and status".into()),
        None => Ok(Command::Run { config }),
    }
}

/// What to do, if not to run.
enum Word {
    Check,
    Status,
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn command(line: &str) -> Result<Command, String> {
        let args = line.split_whitespace().map(OsString::from);
        parse(args).map_err(|error| error.to_string())
    }

    #[test]
    fn runs() {
        let run = Ok(Command::Run {
            config: PathBuf::from("a.ini"),
        });
        for line in [
            "-c a.ini",
            "-ca.ini",
            "-c=a.ini",
            "--config a.ini",
            "--config=a.ini",
        ] {
            assert_eq!(command(line), run, "{line}");
        }
    }

    #[test]
    fn shows_the_status() {
        let status = |watch, json| Command::Status {
            config: PathBuf::from("a.ini"),
            watch,
            json,
        };
        for (line, expected) in [
            ("status -c a.ini", status(false, false)),
            ("-c a.ini --watch status", status(true, false)),
            ("status --json --watch -c a.ini", status(true, true)),
        ] {
            assert_eq!(command(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn checks() {
        for (line, json) in [
            ("check -c a.ini", false),
            ("-c a.ini check", false),
            ("check --json -c a.ini", true),
            ("--json -c a.ini check", true),
        ] {
            let config = PathBuf::from("a.ini");
            let check = Command::Check { config, json };
            assert_eq!(command(line), Ok(check), "{line}");
        }
    }

    #[test]
    fn takes_any_file_name() {
        let name = OsString::from_vec(b"\xff.ini".to_vec());
        let run = Command::Run {
            config: PathBuf::from(&name),
        };
        assert_eq!(parse(["-c".into(), name]).unwrap(), run);
    }

    #[test]
    fn informs() {
        for line in ["-h", "--help", "-c a.ini --help", "--help nonsense"] {
            assert_eq!(command(line), Ok(Command::Help), "{line}");
        }
        for line in ["-V", "--version", "-c a.ini -V"] {
            assert_eq!(command(line), Ok(Command::Version), "{line}");
        }
        assert_eq!(VERSION, "fanout 0.1.0");
        assert!(HELP.lines().count() <= 24, "more than a screen");
        assert!(
            HELP.lines().all(|line| line.len() <= 80),
            "wider than a screen"
        );
    }

    #[test]
    fn refuses() {
        for (line, error) in [
            ("", "no config file is given: -c FILE"),
            ("-c", "missing argument for option '-c'"),
            ("--config", "missing argument for option '--config'"),
            ("--config=", "the config file's name is empty"),
            ("-c a -c b", "more than one config file is given"),
            ("a.ini", "unexpected 'a.ini': the config is -c FILE"),
            ("check", "no config file is given: -c FILE"),
            (
                "check check -c a",
                "unexpected 'check': the config is -c FILE",
            ),
            ("-c a --json", "--json is for check and status"),
            ("-c a --watch", "--watch is for status"),
            ("check -c a --watch", "--watch is for status"),
            ("-c a --verbose", "invalid option '--verbose'"),
            ("-x", "invalid option '-x'"),
        ] {
            assert_eq!(command(line), Err(error.to_owned()), "{line}");
        }
    }
}
