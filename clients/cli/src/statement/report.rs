//! What a statement says: where money was, what moved, where it is.

use crate::history::{Balance, BookHistory, Kind, Movement, PageHistory};
use crate::output::{Moment, Money, Period, line, rfc3339};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use solana_address::Address;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use tallybook_rules::Amount;

/// What `tallybook statement` prints: a section for each book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StatementReport {
    /// The books.
    pub books: Vec<Section>,
}

/// What moved in one book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// The book.
    pub book: String,
    /// Who is paid.
    pub payee: String,
    /// Whose channels these are, if only one payer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The token.
    pub mint: String,
    /// The first moment that counts, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// The first moment that does not count, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Moment>,
    /// The chain's slot up to which everything is in here.
    pub chain_slot: u64,
    /// In channels at the beginning and at the end: deposited, and neither claimed nor given back.
    pub unspent: Ends,
    /// Put into channels.
    pub deposited: Money,
    /// What calls cost, as far as it was claimed.
    pub claimed: Money,
    /// Given back to payers.
    pub returned: Money,
    /// Claimed and not paid out, at the beginning and at the end; not of one payer alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<Ends>,
    /// Paid out, by recipient.
    pub paid_out: BTreeMap<String, Money>,
    /// What the rounded shares of pages left that were closed: claimed, and owed to nobody in particular.
    pub dust: Money,
    /// What the payee got when pages were closed: that dust, and what others had sent to their vaults.
    pub left: Money,
    /// What the transactions of the period have cost, in lamports, by who paid for them.
    pub fee_lamports: BTreeMap<String, u64>,
    /// How many transactions the period has.
    pub transactions: usize,
    /// What moved.
    pub movements: Vec<Line>,
}

/// An amount at the beginning and at the end of a period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Ends {
    /// Before its first moment.
    pub opening: Money,
    /// After its last.
    pub closing: Money,
}

/// One movement: a line of the CSV. Amounts are base units, in the column that says where they went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// When, in UTC.
    pub time: String,
    /// The chain's slot.
    pub chain_slot: u64,
    /// The transaction's signature.
    pub transaction: String,
    /// What it was: `opened`, `topped_up`, `claimed`, `refunded`, `withdrawn`, `paid_out` or `left`.
    pub kind: &'static str,
    /// The book.
    pub book: String,
    /// The page.
    pub page: String,
    /// The channel's slot, id and payer, where it is of one channel.
    pub slot: Option<u8>,
    /// Its id.
    pub channel: Option<String>,
    /// Its payer.
    pub payer: Option<String>,
    /// Who was paid out.
    pub recipient: Option<String>,
    /// Into the channel.
    pub deposited: String,
    /// From the channel to those who are paid.
    pub claimed: String,
    /// From the channel back to its payer.
    pub returned: String,
    /// From the vault to a recipient.
    pub paid_out: String,
    /// The token.
    pub mint: String,
    /// Its decimals: 6 means that 1,000,000 base units are one.
    pub decimals: u8,
}

impl Section {
    /// What moved in the period, of one payer's channels or of all. Fails unless it adds up to what the pages show.
    pub fn of(history: &BookHistory, payer: Option<Address>, period: Period) -> Result<Self> {
        let money = |amount| Money::new(amount, history.book.state.decimals);
        let concerns = |movement: &Movement| {
            payer.is_none_or(|payer| movement.channel.is_some_and(|channel| channel.payer == payer))
        };
        let (mut opening, mut closing) = (Sums::default(), Sums::default());
        for page in &history.pages {
            let of_page = page.movements.iter().filter(|movement| concerns(movement));
            let before = of_page.clone().filter(|movement| movement.at < period.from);
            let (mut before, mut until) =
                (Sums::of(before)?, Sums::of(of_page.clone().filter(|one| one.at < period.to))?);
            let whole = Sums::of(of_page)?;
            whole.is_the_balance_of(page, payer)?;
            before.forget_dust();
            until.forget_dust();
            opening = opening.plus(&before)?;
            closing = closing.plus(&until)?;
        }
        let movements: Vec<Movement> =
            history.movements().into_iter().filter(|one| concerns(one) && period.holds(one.at)).collect();
        let sums = Sums::of(movements.iter())?;
        let mut paid_out: BTreeMap<String, Money> = BTreeMap::new();
        for movement in movements.iter().filter(|movement| movement.kind == Kind::PaidOut) {
            let recipient = movement.recipient.context("a payout to nobody")?.to_string();
            let sum = paid_out.entry(recipient).or_insert(money(Amount::ZERO));
            sum.amount = sum.amount.plus(movement.amount)?;
        }
        let dust = opening.owed()?.plus(sums.claimed)?.minus(sums.paid_out)?.minus(closing.owed()?)?;
        let (fee_lamports, transactions) = costs(history, payer.is_some().then_some(&movements), period)?;
        Ok(Self {
            book: history.book.address.to_string(),
            payee: history.book.payee().to_string(),
            payer: payer.map(|payer| payer.to_string()),
            mint: history.book.mint().to_string(),
            from: (period.from != i64::MIN).then_some(Moment(period.from)),
            to: (period.to != i64::MAX).then_some(Moment(period.to)),
            chain_slot: history.chain_slot,
            unspent: Ends { opening: money(opening.unspent()?), closing: money(closing.unspent()?) },
            deposited: money(sums.deposited),
            claimed: money(sums.claimed),
            returned: money(sums.returned),
            owed: payer.is_none().then_some(Ends { opening: money(opening.owed()?), closing: money(closing.owed()?) }),
            paid_out,
            dust: money(if payer.is_none() { dust } else { Amount::ZERO }),
            left: money(sums.left),
            fee_lamports,
            transactions,
            movements: movements.iter().map(|movement| Line::of(movement, history)).collect(),
        })
    }
}

/// What the period's transactions have cost, and how many they are; only those that moved something, if these are given.
fn costs(
    history: &BookHistory,
    movements: Option<&Vec<Movement>>,
    period: Period,
) -> Result<(BTreeMap<String, u64>, usize)> {
    let mut fees: BTreeMap<String, u64> = BTreeMap::new();
    let mut transactions = 0usize;
    for (signature, cost) in history.costs.iter().filter(|(_, cost)| period.holds(cost.at)) {
        if movements.is_none_or(|movements| movements.iter().any(|movement| movement.transaction == *signature)) {
            transactions = transactions.saturating_add(1);
            let sum = fees.entry(cost.fee_payer.to_string()).or_default();
            *sum = sum.checked_add(cost.lamports).context("more fees than there are lamports")?;
        }
    }
    Ok((fees, transactions))
}

/// What moved, in sums.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sums {
    deposited: Amount,
    claimed: Amount,
    returned: Amount,
    paid_out: Amount,
    left: Amount,
    /// A page was closed: what its rounded shares left was owed to nobody any more.
    closed: bool,
}

impl Sums {
    fn of<'a>(movements: impl Iterator<Item = &'a Movement>) -> Result<Self> {
        let mut sums = Self::default();
        for movement in movements {
            let sum = match movement.kind {
                Kind::Opened | Kind::ToppedUp => &mut sums.deposited,
                Kind::Claimed => &mut sums.claimed,
                Kind::Refunded | Kind::Withdrawn => &mut sums.returned,
                Kind::PaidOut => &mut sums.paid_out,
                Kind::Left => {
                    sums.closed = true;
                    &mut sums.left
                }
            };
            *sum = sum.plus(movement.amount)?;
        }
        Ok(sums)
    }

    /// Of one page: once it is closed, what its shares left is not owed any more.
    fn forget_dust(&mut self) {
        if self.closed {
            self.paid_out = self.claimed;
        }
    }

    fn plus(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            deposited: self.deposited.plus(other.deposited)?,
            claimed: self.claimed.plus(other.claimed)?,
            returned: self.returned.plus(other.returned)?,
            paid_out: self.paid_out.plus(other.paid_out)?,
            left: self.left.plus(other.left)?,
            closed: false,
        })
    }

    fn unspent(&self) -> Result<Amount> {
        Ok(self.deposited.minus(self.claimed)?.minus(self.returned)?)
    }

    fn owed(&self) -> Result<Amount> {
        Ok(self.claimed.minus(self.paid_out)?)
    }

    /// Holds all movements of a page, or of one payer in it, against what the page has in the end.
    fn is_the_balance_of(mut self, page: &PageHistory, payer: Option<Address>) -> Result<()> {
        let Balance { unspent, owed } = page.balance()?;
        let unspent = match payer {
            None => unspent,
            Some(payer) => {
                let mut sum = Amount::ZERO;
                for channel in page.standing.values().filter(|channel| channel.payer == payer) {
                    sum = sum.plus(channel.deposit.minus(channel.settled)?)?;
                }
                sum
            }
        };
        self.forget_dust();
        let adds_up = self.unspent()? == unspent && (payer.is_some() || self.owed()? == owed);
        ensure!(adds_up, "the movements of the page {} do not add up to what is in it", page.address);
        Ok(())
    }
}

impl Line {
    fn of(movement: &Movement, history: &BookHistory) -> Self {
        let Movement { at, chain_slot, transaction, kind, page, channel, recipient, amount } = movement;
        let column = |kinds: &[Kind]| if kinds.contains(kind) { amount.to_string() } else { Amount::ZERO.to_string() };
        Self {
            time: rfc3339(*at),
            chain_slot: *chain_slot,
            transaction: transaction.to_string(),
            kind: kind.name(),
            book: history.book.address.to_string(),
            page: page.to_string(),
            slot: channel.map(|channel| channel.slot),
            channel: channel.map(|channel| channel.id.to_string()),
            payer: channel.map(|channel| channel.payer.to_string()),
            recipient: recipient.map(|recipient| recipient.to_string()),
            deposited: column(&[Kind::Opened, Kind::ToppedUp]),
            claimed: column(&[Kind::Claimed]),
            returned: column(&[Kind::Refunded, Kind::Withdrawn]),
            paid_out: column(&[Kind::PaidOut, Kind::Left]),
            mint: history.book.mint().to_string(),
            decimals: history.book.state.decimals,
        }
    }
}

impl StatementReport {
    /// Each movement as a line, below a line of names.
    pub fn write_csv(&self, to: impl Write) -> Result<()> {
        let mut table = csv::Writer::from_writer(to);
        for line in self.books.iter().flat_map(|section| &section.movements) {
            table.serialize(line)?;
        }
        Ok(table.flush()?)
    }

    /// The sums alone.
    pub fn without_lines(mut self) -> Self {
        self.books.iter_mut().for_each(|section| section.movements.clear());
        self
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "book", &self.book)?;
        line(f, "payee", &self.payee)?;
        if let Some(payer) = &self.payer {
            line(f, "payer", payer)?;
        }
        line(f, "mint", &self.mint)?;
        if let Some(from) = &self.from {
            line(f, "from", from)?;
        }
        if let Some(to) = &self.to {
            line(f, "to", format_args!("{to}, which does not count"))?;
        }
        let Ends { opening, closing } = self.unspent;
        line(
            f,
            "in channels",
            format_args!(
                "{opening} + {} deposited − {} claimed − {} given back = {closing}",
                self.deposited, self.claimed, self.returned
            ),
        )?;
        if let Some(Ends { opening, closing }) = self.owed {
            let paid = self.paid_out.values().fold(Amount::ZERO, |sum, paid| sum.plus(paid.amount).unwrap_or(sum));
            let paid = Money::new(paid, self.claimed.decimals);
            let dust = if self.dust.amount.is_zero() { String::new() } else { format!(" − {} dust", self.dust) };
            line(f, "owed", format_args!("{opening} + {} claimed − {paid} paid out{dust} = {closing}", self.claimed))?;
        }
        for (recipient, paid) in &self.paid_out {
            line(f, "paid out", format_args!("{paid} to {recipient}"))?;
        }
        if !self.left.amount.is_zero() {
            line(f, "left", format_args!("{} of closed pages, to the payee", self.left))?;
        }
        for (payer, lamports) in &self.fee_lamports {
            line(f, "fees", format_args!("{lamports} lamports, paid by {payer}"))?;
        }
        line(f, "transactions", self.transactions)?;
        line(
            f,
            "checked",
            format_args!("it adds up to the pages at slot {} of the chain, to the base unit", self.chain_slot),
        )
    }
}

impl fmt::Display for StatementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, section) in self.books.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{section}")?;
        }
        Ok(())
    }
}
