//! A page, made again from what happened to it.

use super::read::{Recorded, Step};
use anyhow::{Context, Result, ensure};
use solana_address::Address;
use solana_signature::Signature;
use std::collections::BTreeMap;
use tallybook_chain::event::{Claimed, Event, Opened, PaidOut, Refunded, ToppedUp, Withdrawn};
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_rules::signing::{channel_id, page_domain};
use tallybook_rules::{Amount, MAX_LEGS, Status};
use tallybook_wire::Key;

/// What a movement was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A channel was opened.
    Opened,
    /// Somebody added to its deposit.
    ToppedUp,
    /// What calls cost went from the channel to those who are paid; it is in the vault still.
    Claimed,
    /// Unspent money went back to the payer, by agreement.
    Refunded,
    /// Unspent money went back to the payer, after the grace period.
    Withdrawn,
    /// One of those who are paid got what was claimed.
    PaidOut,
    /// A page was closed: dust of rounded shares, and what was sent to its vault from outside, went to the payee.
    Left,
}

impl Kind {
    /// As statements name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::ToppedUp => "topped_up",
            Self::Claimed => "claimed",
            Self::Refunded => "refunded",
            Self::Withdrawn => "withdrawn",
            Self::PaidOut => "paid_out",
            Self::Left => "left",
        }
    }
}

/// Money that moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Movement {
    /// When: Unix seconds of the chain.
    pub at: i64,
    /// The chain's slot.
    pub chain_slot: u64,
    /// By which transaction.
    pub transaction: Signature,
    /// What it was.
    pub kind: Kind,
    /// In which page.
    pub page: Address,
    /// Of which channel; none for payouts.
    pub channel: Option<Channel>,
    /// Who got what was paid out, or what was left.
    pub recipient: Option<Address>,
    /// How much, in base units.
    pub amount: Amount,
}

/// A channel, as far as its money goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// Its id.
    pub id: Key,
    /// Its slot.
    pub slot: u8,
    /// The slot's generation.
    pub generation: u32,
    /// Who funded it.
    pub payer: Address,
    /// All that was put in and not given back, in base units.
    pub deposit: Amount,
    /// All that was claimed of it, in base units.
    pub settled: Amount,
}

/// A channel that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// As it was in the end.
    pub channel: Channel,
    /// By which transaction it ended.
    pub by: Signature,
}

/// Where money is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Balance {
    /// In channels, and not claimed: the payers' still. Base units.
    pub unspent: Amount,
    /// Claimed, and not paid out. Base units.
    pub owed: Amount,
}

/// All that happened to one page.
#[derive(Clone, Debug)]
pub struct PageHistory {
    /// The page.
    pub address: Address,
    domain: [u8; 32],
    book: BookView,
    /// What moved, oldest first.
    pub movements: Vec<Movement>,
    /// The channels that stand, by slot.
    pub standing: BTreeMap<u8, Channel>,
    /// Channels that are over, oldest first.
    pub ended: Vec<Ended>,
    /// All that was claimed, in base units.
    pub claimed: Amount,
    paid: [Amount; MAX_LEGS],
    is_closed: bool,
}

impl PageHistory {
    /// Plays back the `transactions` of the page at `address`, which come in the order in which they ran. Fails where one of
    /// them cannot follow on those before it: then the history is not whole.
    pub fn replay(book: &BookView, address: Address, transactions: &[Recorded]) -> Result<Self> {
        let domain = page_domain(PROGRAM_ID.as_array(), &book.state.genesis_hash, address.as_array());
        let mut history = Self {
            address,
            domain,
            book: *book,
            movements: Vec::new(),
            standing: BTreeMap::new(),
            ended: Vec::new(),
            claimed: Amount::ZERO,
            paid: [Amount::ZERO; MAX_LEGS],
            is_closed: false,
        };
        for transaction in transactions {
            for step in transaction.steps.iter().filter(|step| step.event.page() == Some(address.to_bytes())) {
                let done = history.take(transaction, step);
                done.with_context(|| {
                    format!(
                        "the history of the page {address} is not whole: {} does not follow on what came before it. Ask a \
                         node that keeps all of it",
                        transaction.signature
                    )
                })?;
            }
        }
        Ok(history)
    }

    /// Where the page's money is in the end.
    pub fn balance(&self) -> Result<Balance> {
        let mut unspent = Amount::ZERO;
        for channel in self.standing.values() {
            unspent = unspent.plus(channel.deposit.minus(channel.settled)?)?;
        }
        let mut owed = self.claimed;
        for paid in self.paid {
            owed = owed.minus(paid)?;
        }
        // What is left of a closed page's rounded shares went to the payee.
        Ok(Balance { unspent, owed: if self.is_closed { Amount::ZERO } else { owed } })
    }

    /// Holds what follows from the history against the page itself; none for one that was closed.
    pub fn check(&self, page: Option<&PageView>) -> Result<()> {
        let Some(page) = page else {
            ensure!(
                self.is_closed,
                "the page {} is gone, and its history does not say that it was closed",
                self.address
            );
            return Ok(());
        };
        let address = self.address;
        ensure!(
            !self.is_closed && page.header.claimed_total == self.claimed && page.header.paid == self.paid,
            "the page {address} says that {} were claimed, its history {}: the history is not whole",
            page.header.claimed_total,
            self.claimed
        );
        ensure!(
            page.header.outstanding == self.balance()?.unspent,
            "the page {address} has other deposits than its history"
        );
        for (at, slot) in (0u8..).zip(&page.slots) {
            let known = self.standing.get(&at);
            let same = match slot.status() {
                Ok(Status::Free) => known.is_none(),
                _ => known.is_some_and(|channel| {
                    page.channel_id(at) == Some(channel.id.0)
                        && (slot.deposit, slot.settled) == (channel.deposit, channel.settled)
                }),
            };
            ensure!(same, "slot {at} of the page {address} is not what its history says");
        }
        Ok(())
    }

    fn take(&mut self, by: &Recorded, step: &Step) -> Result<()> {
        match &step.event {
            Event::Opened(event) => self.open(by, event),
            Event::ToppedUp(event) => self.top_up(by, event),
            Event::Claimed(event) => self.claim(by, event, &step.rows),
            Event::PaidOut(event) => self.pay_out(by, event),
            Event::Withdrawn(event) => self.withdraw(by, event),
            Event::Refunded(event) => self.refund(by, event),
            Event::PageClosed(event) => {
                ensure!(self.standing.is_empty(), "a page was closed with channels in it");
                self.is_closed = true;
                let payee = self.book.payee();
                self.moved(by, Kind::Left, None, Some(payee), Amount::new(event.left));
                Ok(())
            }
            // These move nothing.
            Event::BookMade(_) | Event::PageAdded(_) | Event::Closing(_) | Event::OperatorSet(_) => Ok(()),
        }
    }

    fn open(&mut self, by: &Recorded, event: &Opened) -> Result<()> {
        let &Opened { slot, generation, payer, signer, deposit, .. } = event;
        let id = Key(channel_id(&self.domain, slot, generation, &payer, &signer));
        let deposit = Amount::new(deposit);
        let channel = Channel { id, slot, generation, payer: payer.into(), deposit, settled: Amount::ZERO };
        ensure!(self.standing.insert(slot, channel).is_none(), "a channel was opened in a slot that has one");
        self.moved(by, Kind::Opened, Some(channel), None, deposit);
        Ok(())
    }

    fn top_up(&mut self, by: &Recorded, event: &ToppedUp) -> Result<()> {
        let mut channel = self.channel(event.slot)?;
        channel.deposit = channel.deposit.plus(Amount::new(event.amount))?;
        ensure!(channel.deposit == Amount::new(event.deposit), "a deposit is not what it was added up to");
        self.standing.insert(event.slot, channel);
        self.moved(by, Kind::ToppedUp, Some(channel), None, Amount::new(event.amount));
        Ok(())
    }

    fn claim(&mut self, by: &Recorded, event: &Claimed, rows: &[(u8, Amount)]) -> Result<()> {
        let mut added = Amount::ZERO;
        for (slot, up_to) in rows {
            let mut channel = self.channel(*slot)?;
            let target = (*up_to).min(channel.deposit).max(channel.settled);
            let gain = target.minus(channel.settled)?;
            channel.settled = target;
            self.standing.insert(*slot, channel);
            added = added.plus(gain)?;
            if !gain.is_zero() {
                self.moved(by, Kind::Claimed, Some(channel), None, gain);
            }
        }
        self.claimed = self.claimed.plus(added)?;
        let told = (Amount::new(event.added), Amount::new(event.claimed_total));
        ensure!(told == (added, self.claimed), "a claim added something else than it tells");
        Ok(())
    }

    /// Each leg got its share of all that was claimed, less what it had got before.
    fn pay_out(&mut self, by: &Recorded, event: &PaidOut) -> Result<()> {
        let mut paid_out = Amount::ZERO;
        for (at, leg) in self.book.state.legs().to_vec().iter().enumerate() {
            if event.legs.checked_shr(u32::try_from(at)?).is_none_or(|legs| legs & 1 == 0) {
                continue;
            }
            let paid = self.paid.get_mut(at).context("more legs than a book has")?;
            let share = self.claimed.share(leg.basis_points)?.minus(*paid)?;
            *paid = paid.plus(share)?;
            paid_out = paid_out.plus(share)?;
            if !share.is_zero() {
                self.moved(by, Kind::PaidOut, None, Some(leg.recipient.into()), share);
            }
        }
        ensure!(paid_out == Amount::new(event.amount), "a payout was of something else than the shares");
        Ok(())
    }

    fn withdraw(&mut self, by: &Recorded, event: &Withdrawn) -> Result<()> {
        let channel = self.channel(event.slot)?;
        let returned = Amount::new(event.returned);
        ensure!(
            channel.deposit.minus(channel.settled)? == returned,
            "a withdrawal returned something else than what was unspent"
        );
        self.end(by, channel, Kind::Withdrawn, returned);
        Ok(())
    }

    fn refund(&mut self, by: &Recorded, event: &Refunded) -> Result<()> {
        let returned = Amount::new(event.returned);
        let standing = self.standing.get(&event.slot).filter(|channel| channel.generation == event.generation);
        let Some(mut channel) = standing.copied() else {
            // It was over by then: a refund that is asked for again returns nothing.
            ensure!(returned.is_zero(), "a channel that was over was refunded");
            return Ok(());
        };
        let rest = channel.deposit.minus(channel.settled)?.minus(returned)?;
        channel.deposit = channel.deposit.minus(returned)?;
        if rest.is_zero() {
            self.end(by, channel, Kind::Refunded, returned);
        } else {
            self.standing.insert(event.slot, channel);
            self.moved(by, Kind::Refunded, Some(channel), None, returned);
        }
        Ok(())
    }

    fn end(&mut self, by: &Recorded, channel: Channel, kind: Kind, returned: Amount) {
        self.standing.remove(&channel.slot);
        self.ended.push(Ended { channel, by: by.signature });
        self.moved(by, kind, Some(channel), None, returned);
    }

    fn channel(&self, slot: u8) -> Result<Channel> {
        self.standing.get(&slot).copied().with_context(|| format!("slot {slot} has no channel"))
    }

    fn moved(
        &mut self,
        by: &Recorded,
        kind: Kind,
        channel: Option<Channel>,
        recipient: Option<Address>,
        amount: Amount,
    ) {
        let Recorded { signature, chain_slot, at, .. } = by;
        self.movements.push(Movement {
            at: *at,
            chain_slot: *chain_slot,
            transaction: *signature,
            kind,
            page: self.address,
            channel,
            recipient,
            amount,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::town::Town;

    fn amount(units: u64) -> Amount {
        Amount::new(units)
    }

    /// Two channels, claimed and paid out with a remainder, one refunded in two steps, one withdrawn.
    fn life() -> Town {
        let mut town = Town::default();
        town.open(0, 1, 1_000);
        town.open(1, 1, 500);
        town.top_up(0, 200, 1_200);
        // Up to more than the deposit of slot 1: all of that.
        town.claim(&[(0, 301), (1, 700)], 801);
        town.claim(&[(0, 301), (1, 10)], 0);
        town.pay_out(0b01, 480);
        town.pay_out(0b11, 320);
        town.refund(0, 1, 100);
        town.refund(0, 1, 799);
        town
    }

    #[test]
    fn given_a_whole_history_when_played_back_then_each_movement_and_what_is_left_is_there() {
        let mut town = life();
        town.refund(0, 1, 0);
        town.withdraw(1, 0);
        let history = town.replay().unwrap();
        let moved: Vec<(Kind, u64)> = history.movements.iter().map(|one| (one.kind, one.amount.get())).collect();
        assert_eq!(
            moved,
            [
                (Kind::Opened, 1_000),
                (Kind::Opened, 500),
                (Kind::ToppedUp, 200),
                (Kind::Claimed, 301),
                (Kind::Claimed, 500),
                (Kind::PaidOut, 480),
                (Kind::PaidOut, 320),
                (Kind::Refunded, 100),
                (Kind::Refunded, 799),
                (Kind::Withdrawn, 0),
            ]
        );
        // 60 % of 801 is 480.6, and 40 % 320.4: one unit is nobody's.
        assert_eq!(history.balance().unwrap(), Balance { unspent: amount(0), owed: amount(1) });
        assert_eq!(history.ended.len(), 2);
        // When the page is closed, then that unit, and what somebody had sent to the vault, is the payee's.
        town.close(7);
        let closed = town.replay().unwrap();
        assert_eq!(closed.balance().unwrap(), Balance::default());
        assert!(closed.check(None).is_ok());
        assert!(history.check(None).is_err(), "a page that is gone and was never closed");
    }

    #[test]
    fn given_a_transaction_that_is_missing_when_played_back_then_the_next_one_that_needs_it_is_named() {
        let whole = life();
        // What is left out after these shows when the page itself is looked at.
        for missing in [0, 1, 2, 3, 5] {
            let mut town = life();
            let gone = town.told.remove(missing);
            let error = format!("{:#}", town.replay().unwrap_err());
            assert!(error.contains("not whole"), "without {missing} ({gone:?}): {error}");
        }
        let mut town = life();
        town.refund(0, 1, 5);
        assert!(town.replay().is_err(), "a refund of what was over by then");
        let mut town = life();
        town.withdraw(1, 1);
        assert!(town.replay().is_err(), "more back than was unspent");
        let mut town = life();
        town.close(0);
        assert!(town.replay().is_err(), "closed with a channel in it");
        assert!(whole.replay().is_ok());
    }

    #[test]
    fn given_a_slot_that_was_used_again_when_an_old_refund_is_repeated_then_the_new_channel_keeps_its_money() {
        let mut town = life();
        town.open(0, 2, 50);
        town.refund(0, 1, 0);
        let history = town.replay().unwrap();
        assert_eq!(history.standing[&0].deposit, amount(50));
        assert_ne!(history.standing[&0].id, history.ended[0].channel.id);
    }
}
