//! What counts against the budgets. Pure: the file, its lock and the clock are the caller's.

use crate::breach::Breach;
use crate::policy::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tallybook_rules::Amount;
use tallybook_wire::{Key, decimal};

const MINUTE_SECONDS: i64 = 60;
const MINUTES_OF_AN_HOUR: i64 = 60;
const HOURS_OF_A_DAY: i64 = 24;

/// An amount in base units, written as a decimal string.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Sum(#[serde(with = "decimal")] Amount);

impl Sum {
    /// A sum beyond 64 bits is beyond every budget as well.
    fn add(&mut self, amount: Amount) {
        self.0 = sum(self.0, amount);
    }
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.plus(b).unwrap_or(Amount::new(u64::MAX))
}

/// A channel as the budget counts it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Its host.
    pub(crate) host: String,
    /// Its deposit; of a channel that is over, what it cost.
    #[serde(with = "decimal")]
    pub(crate) amount: Amount,
    /// It is over.
    #[serde(skip)]
    pub(crate) ended: bool,
}

/// The contents of the budget's file.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// State directories, by their name, and the channels of each that are not over.
    owners: BTreeMap<String, BTreeMap<Key, Counted>>,
    /// What the channels that are over have cost, by host.
    ended: BTreeMap<String, Sum>,
    /// What calls were promised in each minute of the last hour and each hour of the last day, counted from 1970.
    minutes: BTreeMap<i64, Sum>,
    hours: BTreeMap<i64, Sum>,
}

impl Figures {
    /// Adds `more` to what the channel counts with, if the budgets leave room for it.
    pub(crate) fn commit(
        &mut self,
        limits: &Limits,
        owner: &str,
        (id, host): (Key, &str),
        more: Amount,
    ) -> Result<(), Breach> {
        let in_all = (String::from("in all"), self.committed(), limits.budget);
        let at_host = (format!("at {host}"), self.committed_at(host), limits.budget_per_host);
        for (scope, committed, limit) in [at_host, in_all] {
            if sum(committed, more) > limit {
                return Err(Breach::BudgetExceeded { scope, deposit: more, committed, limit });
            }
        }
        let channels = self.owners.entry(owner.to_owned()).or_default();
        let new = || Counted { host: host.to_owned(), amount: Amount::ZERO, ended: false };
        let counted = channels.entry(id).or_insert_with(new);
        counted.amount = sum(counted.amount, more);
        Ok(())
    }

    /// What the channel counts with from now on, over the limit or not; nothing when it is over, and its cost is added to
    /// those of its host.
    pub(crate) fn set(&mut self, owner: &str, id: Key, counted: Counted) {
        let channels = self.owners.entry(owner.to_owned()).or_default();
        if !counted.ended {
            channels.insert(id, counted);
        } else if channels.remove(&id).is_some() {
            self.ended.entry(counted.host).or_default().add(counted.amount);
        }
    }

    /// Takes over what a state directory knows of its channels, when it is opened. The journal is right: what it does not
    /// have was never sent. A directory that is seen for the first time brings its past along.
    pub(crate) fn take_over(&mut self, owner: &str, channels: Vec<(Key, Counted)>) {
        let before = self.owners.insert(owner.to_owned(), BTreeMap::new());
        for (id, counted) in channels {
            let is_counted_as_ended = counted.ended && before.as_ref().is_some_and(|before| !before.contains_key(&id));
            if is_counted_as_ended {
                continue;
            }
            if counted.ended {
                self.ended.entry(counted.host).or_default().add(counted.amount);
            } else {
                self.set(owner, id, counted);
            }
        }
    }

    /// Takes between `least` and `most` out of what may still be promised at `now`, and says how much.
    pub(crate) fn draw(
        &mut self,
        limits: &Limits,
        (least, most): (Amount, Amount),
        now: i64,
    ) -> Result<(i64, Amount), Breach> {
        let minute = self.forget_before(now);
        let mut room = most;
        for (period, spent, limit) in
            [("hour", self.last_hour(), limits.per_hour), ("day", self.last_day(), limits.per_day)]
        {
            let Some(limit) = limit else { continue };
            let left = limit.less(spent);
            if left < least {
                return Err(Breach::RateExceeded { period, price: least, spent, limit });
            }
            // The nearer the limit, the less is drawn ahead: what one process holds another one cannot spend.
            room = room.min(Amount::new(left.get() / 8));
        }
        let drawn = room.max(least);
        self.minutes.entry(minute).or_default().add(drawn);
        self.hours.entry(minute.div_euclid(MINUTES_OF_AN_HOUR)).or_default().add(drawn);
        Ok((minute, drawn))
    }

    /// Gives back what was drawn in each of these minutes and not spent.
    pub(crate) fn give_back(&mut self, rest: &BTreeMap<i64, Amount>) {
        for (minute, amount) in rest {
            let hour = minute.div_euclid(MINUTES_OF_AN_HOUR);
            for sum in [self.minutes.get_mut(minute), self.hours.get_mut(&hour)].into_iter().flatten() {
                sum.0 = sum.0.less(*amount);
            }
        }
    }

    /// Forgets what was before the last day, and says which minute it is. A clock that was set back does not bring
    /// anything back.
    pub(crate) fn forget_before(&mut self, now: i64) -> i64 {
        let newest = self.minutes.last_key_value().map_or(i64::MIN, |(minute, _)| *minute);
        let minute = now.div_euclid(MINUTE_SECONDS).max(newest);
        self.minutes.retain(|at, _| *at >= minute.saturating_sub(MINUTES_OF_AN_HOUR));
        let hour = minute.div_euclid(MINUTES_OF_AN_HOUR);
        self.hours.retain(|at, _| *at >= hour.saturating_sub(HOURS_OF_A_DAY));
        minute
    }

    /// What was promised in the last hour, and up to a minute before.
    pub(crate) fn last_hour(&self) -> Amount {
        self.minutes.values().fold(Amount::ZERO, |all, one| sum(all, one.0))
    }

    /// What was promised in the last day, and up to an hour before.
    pub(crate) fn last_day(&self) -> Amount {
        self.hours.values().fold(Amount::ZERO, |all, one| sum(all, one.0))
    }

    /// What is tied up or spent in all.
    pub(crate) fn committed(&self) -> Amount {
        self.hosts().into_values().fold(Amount::ZERO, sum)
    }

    /// What is tied up or spent at a host.
    pub(crate) fn committed_at(&self, host: &str) -> Amount {
        let open = self.owners.values().flat_map(BTreeMap::values).filter(|counted| counted.host == host);
        let ended = self.ended.get(host).map_or(Amount::ZERO, |ended| ended.0);
        open.fold(ended, |all, counted| sum(all, counted.amount))
    }

    /// What is tied up or spent, by host.
    pub(crate) fn hosts(&self) -> BTreeMap<String, Amount> {
        let mut hosts: BTreeMap<String, Amount> = self.ended.iter().map(|(host, sum)| (host.clone(), sum.0)).collect();
        for counted in self.owners.values().flat_map(BTreeMap::values) {
            let at_host = hosts.entry(counted.host.clone()).or_default();
            *at_host = sum(*at_host, counted.amount);
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn amount(units: u64) -> Amount {
        Amount::new(units)
    }

    fn limits() -> Limits {
        Limits {
            budget: amount(30),
            budget_per_host: amount(20),
            per_hour: Some(amount(100)),
            per_day: Some(amount(150)),
        }
    }

    fn open(host: &str, units: u64) -> Counted {
        Counted { host: host.into(), amount: amount(units), ended: false }
    }

    fn over(host: &str, units: u64) -> Counted {
        Counted { ended: true, ..open(host, units) }
    }

    #[test]
    fn given_two_budgets_when_deposits_come_then_neither_is_exceeded_and_what_comes_back_is_free() {
        let mut figures = Figures::default();
        let commit = |figures: &mut Figures, id: u8, host: &str, units| {
            figures.commit(&limits(), "me", (Key([id; 32]), host), amount(units))
        };
        assert_eq!(commit(&mut figures, 1, "a", 10), Ok(()));
        assert_eq!(commit(&mut figures, 1, "a", 10), Ok(()), "a top-up");
        let refused = commit(&mut figures, 2, "a", 1).unwrap_err();
        assert!(refused.to_string().contains("at a"), "{refused}");
        assert_eq!(commit(&mut figures, 3, "b", 10), Ok(()));
        let refused = commit(&mut figures, 4, "c", 1).unwrap_err();
        assert!(refused.to_string().contains("in all"), "{refused}");
        assert!(commit(&mut figures, 4, "c", u64::MAX).is_err());
        figures.set("me", Key([1; 32]), over("a", 13));
        assert_eq!((figures.committed_at("a"), figures.committed()), (amount(13), amount(23)));
        figures.set("me", Key([1; 32]), over("a", 13));
        assert_eq!(figures.committed(), amount(23), "a channel ends once");
        assert_eq!(commit(&mut figures, 5, "a", 7), Ok(()));
    }

    #[test]
    fn given_a_crash_when_the_directory_is_opened_again_then_its_journal_is_right() {
        let id = |byte| Key([byte; 32]);
        let mut figures = Figures::default();
        // Given a directory with a past
        figures.take_over("me", vec![(id(1), open("a", 10)), (id(2), over("a", 3))]);
        figures.take_over("other", vec![(id(9), open("a", 2))]);
        assert_eq!(figures.committed(), amount(15));
        // When it stopped after a budget was taken and before anything was sent, and after a channel had ended
        figures.commit(&limits(), "me", (id(3), "a"), amount(5)).unwrap();
        let mut again = figures.clone();
        again.take_over("me", vec![(id(1), over("a", 4)), (id(2), over("a", 3))]);
        assert_eq!(again.committed(), amount(3 + 4 + 2));
        // Then once more changes nothing
        again.take_over("me", vec![(id(1), over("a", 4)), (id(2), over("a", 3))]);
        assert_eq!(again.committed(), amount(9));
    }

    #[test]
    fn given_hours_and_days_when_time_goes_on_then_no_window_is_exceeded() {
        let mut figures = Figures::default();
        let one = (amount(25), amount(25));
        for at in [0, 10, 3_000, 3_599] {
            figures.draw(&limits(), one, at).unwrap();
        }
        assert!(matches!(figures.draw(&limits(), one, 3_600), Err(Breach::RateExceeded { period: "hour", .. })));
        // The first two count until the hour after their minute is over
        assert!(figures.draw(&limits(), one, 3_659).is_err());
        assert!(figures.draw(&limits(), one, 3_660).is_ok());
        assert!(figures.draw(&limits(), one, 3_661).is_ok());
        // Then the day is used up
        assert!(matches!(figures.draw(&limits(), one, 80_000), Err(Breach::RateExceeded { period: "day", .. })));
        assert!(figures.draw(&limits(), one, 90_000).is_ok());
    }

    #[test]
    fn given_a_clock_that_is_set_back_when_more_is_spent_then_nothing_is_forgotten() {
        let mut figures = Figures::default();
        let all = (amount(100), amount(100));
        figures.draw(&limits(), all, 10_000).unwrap();
        assert!(figures.draw(&limits(), (amount(1), amount(1)), 0).is_err());
        figures.give_back(&BTreeMap::from([(10_000 / 60, amount(40))]));
        assert_eq!(figures.last_hour(), amount(60));
        assert!(figures.draw(&limits(), (amount(40), amount(40)), 0).is_ok());
    }

    #[test]
    fn given_a_limit_that_is_near_when_drawn_ahead_then_little_is_held() {
        let mut figures = Figures::default();
        let (_, drawn) = figures.draw(&limits(), (amount(1), amount(64)), 0).unwrap();
        assert_eq!(drawn, amount(12));
        let limits = Limits { per_hour: Some(amount(19)), ..limits() };
        let (_, drawn) = figures.draw(&limits, (amount(2), amount(64)), 0).unwrap();
        assert_eq!(drawn, amount(2));
    }

    #[test]
    fn given_figures_when_written_then_they_read_back() {
        let mut figures = Figures::default();
        figures.take_over("me", vec![(Key([1; 32]), open("a", 10)), (Key([2; 32]), over("b", 3))]);
        figures.draw(&limits(), (amount(1), amount(1)), 5_000).unwrap();
        let json = serde_json::to_vec(&figures).unwrap();
        assert_eq!(serde_json::from_slice::<Figures>(&json).unwrap(), figures);
    }
}
