//! What a test needs, and what becomes of it where that is missing.

use std::{env, path::Path};

use libtest_mimic::{Completion, Failed, Trial};

use super::sys;

/// The tests, in the order in which they run.
#[derive(Default)]
pub struct Suite {
    /// Ready to run.
    pub trials: Vec<Trial>,
}

impl Suite {
    /// Adds a test that needs root and the programs of iproute2.
    pub fn test(&mut self, name: &str, test: fn()) {
        self.test_with(name, &[], test);
    }

    /// Adds a test that needs root and `programs`.
    pub fn test_with(&mut self, name: &str, programs: &'static [&'static str], test: fn()) {
        self.test_when(name, programs, || Ok(()), test);
    }

    /// Adds a test that needs root, `programs`, and what else `needs` looks for.
    pub fn test_when(
        &mut self,
        name: &str,
        programs: &'static [&'static str],
        needs: impl FnOnce() -> Result<(), String> + Send + 'static,
        test: impl FnOnce() + Send + 'static,
    ) {
        let run = move || match present(programs).and_then(|()| needs()) {
            Ok(()) => {
                test();
                Ok(Completion::Completed)
            }
            Err(what) if strict() => Err(Failed::from(what)),
            Err(what) => Ok(Completion::ignored_with(format!("because {what}"))),
        };
        self.trials.push(Trial::ignorable_test(name, run));
    }
}

/// Or why a test can't run here.
fn present(programs: &[&str]) -> Result<(), String> {
    if sys::effective_user() != 0 {
        return Err("it needs root".to_owned());
    }
    match ["ip"]
        .iter()
        .chain(programs)
        .find(|program| !in_path(program))
    {
        Some(program) => Err(format!("there is no {program}")),
        None => Ok(()),
    }
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| Path::new(&folder).join(program).is_file())
}

fn strict() -> bool {
    is_set("FANOUT_TEST_STRICT")
}

/// `short`, or `long` if the long form is asked for.
pub fn count(short: u32, long: u32) -> u32 {
    if is_set("FANOUT_TEST_LONG") {
        long
    } else {
        short
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}
