//! What one roster has that another has not, for the log: a line each, and how many.

use std::fmt;

use log::info;

use crate::roster::{Member, Roster, Served};

/// How many listeners came, went, and have other settings or downstreams.
#[derive(Debug, Default)]
pub(super) struct Difference {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Difference {
    /// Logs each listener and downstream that differs.
    pub(super) fn report(before: &Roster, after: &Roster) -> Self {
        let mut difference = Self::default();
        let same = |served: &Served| before.iter().find(|other| other.slot == served.slot);
        for served in after.iter() {
            let name = &served.config.name;
            match same(served) {
                None => {
                    difference.added += 1;
                    info!(
                        "listener added listener={name} mode={}",
                        served.config.mode.name()
                    );
                }
                Some(other) if other != served => {
                    difference.changed += 1;
                    info!("listener changed listener={name}");
                    members(other, served);
                }
                Some(_) => {}
            }
        }
        for served in before.iter() {
            if !after.iter().any(|other| other.slot == served.slot) {
                difference.removed += 1;
                let Served { config, .. } = served;
                info!(
                    "listener removed listener={} mode={}",
                    config.name,
                    config.mode.name()
                );
            }
        }
        difference
    }
}

fn members(before: &Served, after: &Served) {
    for member in &after.members {
        match before.members.iter().find(|other| is(other, member)) {
            None => info!(
                "downstream added {} weight={}",
                member.who(&after.config),
                member.weight
            ),
            Some(other) if other.weight != member.weight => info!(
                "downstream changed {} weight={} was={}",
                member.who(&after.config),
                member.weight,
                other.weight
            ),
            Some(_) => {}
        }
    }
    for member in &before.members {
        if !after.members.iter().any(|other| is(other, member)) {
            info!("downstream removed {}", member.who(&before.config));
        }
    }
}

fn is(one: &Member, other: &Member) -> bool {
    (&one.name, one.address) == (&other.name, other.address)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            removed,
            changed,
        } = self;
        write!(f, "added={added} removed={removed} changed={changed}")
    }
}
