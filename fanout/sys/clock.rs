//! The time of day.

use std::{
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

/// A moment in UTC; shown as in RFC 3339, to the millisecond.
#[derive(Debug)]
pub struct Utc {
    fields: libc::tm,
    milliseconds: u32,
}

impl Utc {
    /// That of `time`.
    ///
    /// # Errors
    /// `EOVERFLOW` if its year is no number of 32 bits, or it is before 1970.
    pub fn of(time: SystemTime) -> io::Result<Self> {
        let overflow = || io::Error::from_raw_os_error(libc::EOVERFLOW);
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| overflow())?;
        // Not by its name, `time_t`: of musl's, libc warns that it was once shorter.
        let seconds = since.as_secs().try_into().map_err(|_| overflow())?;
        // SAFETY: integers and a pointer; zero is valid.
        let mut fields: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: `seconds` is readable and `fields` is writable.
        let result = unsafe { libc::gmtime_r(&raw const seconds, &raw mut fields) };
        if result.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            fields,
            milliseconds: since.subsec_millis(),
        })
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tm = &self.fields;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            tm.tm_year + 1900,
            tm.tm_mon + 1,
            tm.tm_mday,
            tm.tm_hour,
            tm.tm_min,
            tm.tm_sec,
            self.milliseconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn as_in_rfc_3339() {
        let shown = |seconds, milliseconds| {
            let since = Duration::from_secs(seconds) + Duration::from_millis(milliseconds);
            Utc::of(UNIX_EPOCH + since).map(|utc| utc.to_string()).ok()
        };
        assert_eq!(shown(0, 0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(
            shown(1_709_210_096, 7).as_deref(),
            Some("2024-02-29T12:34:56.007Z")
        );
        assert_eq!(shown(u64::MAX / 4, 0), None);
    }
}
