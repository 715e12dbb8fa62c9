//! The command line.

use std::{path::PathBuf, process::exit, time::Duration};

use lexopt::{
    Arg::{Long, Short},
    ValueExt,
};

use super::{
    contender::{self, Contender},
    measure::Plan,
};

const USAGE: &str = "\
cargo bench --bench peers -- [OPTIONS]
  --rounds N        rounds, of which the medians are shown (5)
  --quick           one round, and shorter
  --only A,B        these contenders alone
  --flood SECONDS   only flood them so long, and show where datagrams are lost
  --rate N          with --flood: no more than so many a second
  --output FOLDER   where peers.txt, peers.json and peers.svg go (benches/results, if all run)
Contenders:";

/// What to do.
pub struct Options {
    pub rounds: usize,
    pub plan: Plan,
    pub contenders: Vec<&'static Contender>,
    pub flood: Option<Duration>,
    pub rate: Option<f64>,
    pub output: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; ends the process if they are not right, or ask for help.
    pub fn from_arguments() -> Self {
        Self::parse().unwrap_or_else(|error| {
            eprintln!("{error}\n{}", usage());
            exit(2)
        })
    }

    fn parse() -> Result<Self, lexopt::Error> {
        let mut options = Self {
            rounds: 5,
            plan: Plan::WHOLE,
            contenders: contender::ALL.iter().collect(),
            flood: None,
            rate: None,
            output: None,
        };
        let mut whole = true;
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("rounds") => options.rounds = arguments.value()?.parse::<usize>()?.max(1),
                Long("quick") => {
                    (options.rounds, options.plan, whole) = (1, Plan::QUICK, false);
                }
                Long("only") => {
                    whole = false;
                    let names = arguments.value()?.string()?;
                    let find = |name| {
                        contender::ALL
                            .iter()
                            .find(|contender| contender.name == name)
                    };
                    options.contenders = names
                        .split(',')
                        .map(|name| find(name).ok_or_else(|| format!("no contender {name:?}")))
                        .collect::<Result<_, _>>()?;
                }
                Long("flood") => {
                    options.flood = Some(Duration::from_secs_f64(arguments.value()?.parse()?));
                }
                Long("rate") => options.rate = Some(arguments.value()?.parse()?),
                Long("output") => options.output = Some(arguments.value()?.into()),
                // cargo bench says so.
                Long("bench") => {}
                Long("help") | Short('h') => {
                    println!("{}", usage());
                    exit(0)
                }
                _ => return Err(argument.unexpected()),
            }
        }
        if whole && options.output.is_none() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results");
            options.output = Some(folder.into());
        }
        Ok(options)
    }
}

fn usage() -> String {
    let names = contender::ALL.iter().map(|contender| contender.name);
    names.fold(USAGE.to_owned(), |usage, name| usage + " " + name)
}
