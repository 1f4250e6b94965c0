use serde::{Serialize, Serializer};
use std::fmt;
use std::time::{Duration, SystemTime};

/// The end of the year 9999, the last that has a date of the usual form.
const LAST: u64 = 253_402_300_799;

/// A time of the chain's clock: Unix seconds for programs, a date for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment(pub i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = u64::try_from(self.0).ok().filter(|seconds| *seconds <= LAST);
        match seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))) {
            Some(time) => f.write_str(&httpdate::fmt_http_date(time)),
            None => write!(f, "{} (Unix seconds)", self.0),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_can_be_shown() {
        assert_eq!(Moment(1_790_000_000).to_string(), "Mon, 21 Sep 2026 14:13:20 GMT");
        assert_eq!(serde_json::to_string(&Moment(1_790_000_000)).unwrap(), "1790000000");
        for out_of_range in [-1, i64::MAX, 253_402_300_800] {
            assert!(Moment(out_of_range).to_string().contains("Unix seconds"));
        }
    }
}
