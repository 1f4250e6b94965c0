//! The table at the end, and the checks that decide the exit status.

use super::audit::{Kind, Sent};
use super::cast::{Act, Role};
use super::table::{difference, grouped, milliseconds, quotient, rate, seconds};
use super::{PRICE, Story, Tally};
use crate::dev_chain::DevMint;
use anyhow::Result;
use serde::Serialize;
use std::fmt::{self, Write};
use tallybook_agent::Closed;
use tallybook_rules::{Amount, Rejection};

const DECIMALS: u8 = DevMint::DECIMALS;

/// Something that must hold, and whether it does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// Whether it does.
    pub holds: bool,
    /// What, as a sentence with its numbers.
    pub what: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} {}", if self.holds { "✓" } else { "✗ NOT SO:" }, self.what)
    }
}

/// Fees of one kind of transaction.
#[derive(Default)]
struct Fees {
    transactions: u64,
    rows: u64,
    fee_lamports: u64,
    spent_lamports: u64,
}

fn fees(sent: &[Sent], kind: Kind) -> Fees {
    let mut fees = Fees::default();
    for one in sent.iter().filter(|one| one.kind == kind) {
        fees.transactions = fees.transactions.saturating_add(1);
        fees.rows = fees.rows.saturating_add(one.rows);
        fees.fee_lamports = fees.fee_lamports.saturating_add(one.fee_lamports);
        fees.spent_lamports = fees.spent_lamports.saturating_add(one.spent_lamports);
    }
    fees
}

impl Story {
    /// The table.
    pub fn table(&self) -> Result<String> {
        let mut text = "\n".to_owned();
        self.write_calls(&mut text)?;
        self.write_chain(&mut text)?;
        self.write_money(&mut text)?;
        self.write_trouble(&mut text)?;
        Ok(text)
    }

    fn write_calls(&self, text: &mut String) -> Result<()> {
        row(text, &format!("CALLS, {} at a time", self.acts.len()), ["number", "a second", "p50", "p99"])?;
        write_tally(text, "  unpaid", &self.unpaid)?;
        write_tally(text, &format!("  paid, {PRICE} each"), &self.paid)?;
        let ((p50, p99), (base_p50, base_p99)) = (self.paid.p50_p99(), self.unpaid.p50_p99());
        let added = |paid: u64, unpaid: u64| format!("+{}", milliseconds(paid.saturating_sub(unpaid)));
        row(text, "  added by paying", ["", "", &added(p50, base_p50), &added(p99, base_p99)])?;
        row(text, "  failed in the handler, not charged", [&grouped(self.paid.failed), "", "", ""])?;
        let opened = grouped(u64::try_from(self.acts.len())?);
        row(text, "  opened a channel first", [&opened, "", "", &format!("≤ {}", seconds(self.paid.opening))])
    }

    fn write_chain(&self, text: &mut String) -> Result<()> {
        row(text, "\nON CHAIN, fees in lamports", ["transactions", "claims", "fees", "per claim"])?;
        write_fees(text, "open a channel", &fees(&self.sent, Kind::Open))?;
        let mut sizes: Vec<u64> = self.sent.iter().filter(|one| one.kind == Kind::Claim).map(|one| one.rows).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        for size in sizes {
            let of_size: Vec<Sent> = self.sent.iter().filter(|one| one.rows == size).copied().collect();
            write_fees(text, &format!("claim {size} and pay out"), &fees(&of_size, Kind::Claim))?;
        }
        write_fees(text, "close together", &fees(&self.sent, Kind::Refund))?;
        let other = fees(&self.sent, Kind::Other);
        let rent = grouped(other.spent_lamports.saturating_sub(other.fee_lamports));
        write_fees(text, &format!("lookup table (rent {rent})"), &other)?;
        let claims = fees(&self.sent, Kind::Claim);
        writeln!(
            text,
            "\n  {} vouchers settled by {} claims in {} transactions:\n  \
             {} claims per transaction, {} lamports per claim, {} lamports per paid call",
            grouped(self.paid.served),
            grouped(claims.rows),
            grouped(claims.transactions),
            quotient(claims.rows, claims.transactions),
            quotient(claims.fee_lamports, claims.rows),
            quotient(claims.fee_lamports, self.paid.served),
        )?;
        Ok(())
    }

    fn write_money(&self, text: &mut String) -> Result<()> {
        let (before, after) = (&self.before, &self.after);
        row(text, "\nUSDC", ["before", "after", "difference", ""])?;
        let agents = format!("{} agents", self.acts.len());
        for (name, before, after) in [
            ("payee", before.payee, after.payee),
            (agents.as_str(), before.agents_in_all()?, after.agents_in_all()?),
            ("the page's vault", before.vault, after.vault),
            ("facilitator", before.facilitator, after.facilitator),
            ("everybody", before.in_all()?, after.in_all()?),
        ] {
            let show = |amount: Amount| amount.decimal(DECIMALS).to_string();
            let change = difference(before, after, DECIMALS);
            row(text, &format!("  {name}"), [&show(before), &show(after), &change, ""])?;
        }
        Ok(())
    }

    fn write_trouble(&self, text: &mut String) -> Result<()> {
        writeln!(text, "\nTROUBLE, made on purpose")?;
        for act in self.acts.iter().filter(|act| act.role != Role::Honest) {
            let what = match act.role {
                Role::Honest => continue,
                Role::Leaves => "left without the server: claimed in time, withdrawn after the grace period".to_owned(),
                Role::Replays => format!("presented its newest voucher again: {}", refusal(act)),
                Role::Overspends => format!("signed one call above its deposit: {}", refusal(act)),
            };
            writeln!(text, "  one agent {what}")?;
        }
        Ok(())
    }

    /// What must hold.
    pub fn checks(&self) -> Result<Vec<Check>> {
        let mut checks = self.call_checks()?;
        checks.extend(self.money_checks()?);
        checks.extend(self.trouble_checks());
        checks.push(self.sponsor_check());
        Ok(checks)
    }

    fn call_checks(&self) -> Result<Vec<Check>> {
        let (served, due) = (self.paid.served, self.price.times(self.paid.served)?);
        Ok(vec![
            Check {
                holds: served == self.calls,
                what: format!("All {} paid calls were answered, and every answer is right.", grouped(self.calls)),
            },
            Check {
                holds: self.paid.charged == due,
                what: format!(
                    "The receipts add up to {} USDC: {} calls at {PRICE}, and nothing for the {} that failed.",
                    self.paid.charged.decimal(DECIMALS),
                    grouped(served),
                    grouped(self.paid.failed)
                ),
            },
        ])
    }

    fn money_checks(&self) -> Result<Vec<Check>> {
        let due = self.price.times(self.paid.served)?;
        let gained = self.after.payee.less(self.before.payee);
        let mut exact = self.acts.len() == self.after.agents.len();
        for ((act, before), after) in self.acts.iter().zip(&self.before.agents).zip(&self.after.agents) {
            exact &= before.minus(*after)? == self.price.times(act.tally.served)?;
        }
        let within = self.channels.len() == self.acts.len()
            && self.channels.iter().all(|channel| {
                channel.settled == channel.charged
                    && channel.charged <= channel.signed
                    && channel.signed <= channel.deposit
            });
        Ok(vec![
            Check {
                holds: gained == due,
                what: format!("The payee's account gained {} USDC, calls times price.", gained.decimal(DECIMALS)),
            },
            Check {
                holds: exact,
                what: "Every agent's account lost its own calls times price, to the last base unit.".to_owned(),
            },
            Check { holds: within, what: "On every channel: settled = charged ≤ signed ≤ deposit.".to_owned() },
            Check {
                holds: self.after.vault.is_zero(),
                what: "The vault is empty: all was claimed and paid out, or returned.".to_owned(),
            },
            Check {
                holds: self.before.in_all()? == self.minted && self.after.in_all()? == self.minted,
                what: format!(
                    "Conserved: everybody together holds the {} USDC that were minted, before and after.",
                    self.minted.decimal(DECIMALS)
                ),
            },
        ])
    }

    fn trouble_checks(&self) -> Vec<Check> {
        let refused = |role: Role, rejection: Rejection| {
            let mut acts = self.acts.iter().filter(|act| act.role == role);
            acts.any(|act| act.refused.as_ref().and_then(|reason| reason.rejection()) == Some(rejection))
        };
        let rest_came_back = |act: &Act, closed: &Closed| act.deposit.minus(act.tally.charged) == Ok(closed.returned);
        let mut ends = self.acts.iter().zip(&self.closed);
        let left = ends.clone().any(|(act, closed)| act.role == Role::Leaves && rest_came_back(act, closed));
        let all = self.closed.len() == self.acts.len() && ends.all(|(act, closed)| rest_came_back(act, closed));
        vec![
            Check {
                holds: refused(Role::Replays, Rejection::VoucherUsed),
                what: "The replayed voucher was refused (voucher_used) and charged nothing.".to_owned(),
            },
            Check {
                holds: refused(Role::Overspends, Rejection::DepositExceeded),
                what: "The voucher above the deposit was refused (deposit_exceeded) and charged nothing.".to_owned(),
            },
            Check {
                holds: left,
                what: "The agent that left without the server paid for all its calls and got the rest back.".to_owned(),
            },
            Check {
                holds: all,
                what: "Every channel is closed, and the rest of its deposit is back with its agent.".to_owned(),
            },
        ]
    }

    fn sponsor_check(&self) -> Check {
        let spent = self.sent.iter().fold(0u64, |sum, one| sum.saturating_add(one.spent_lamports));
        let failed = self.sent.iter().filter(|one| !one.succeeded).count();
        Check {
            holds: spent == self.sponsor_lamports && failed == 0,
            what: format!(
                "The sponsor's balance fell by {} lamports, as its {} transactions say; {failed} of them failed.",
                grouped(self.sponsor_lamports),
                self.sent.len()
            ),
        }
    }
}

/// A name and four columns.
fn row(text: &mut String, name: &str, columns: [&str; 4]) -> Result<()> {
    write!(text, "{name:<width$}", width = if name.starts_with('\n') { 37 } else { 36 })?;
    for column in columns {
        write!(text, "{column:>14}")?;
    }
    text.truncate(text.trim_end().len());
    writeln!(text)?;
    Ok(())
}

fn write_tally(text: &mut String, name: &str, tally: &Tally) -> Result<()> {
    let (p50, p99) = tally.p50_p99();
    let columns = [grouped(tally.served), rate(tally.served, tally.time), milliseconds(p50), milliseconds(p99)];
    row(text, name, columns.each_ref().map(String::as_str))
}

fn write_fees(text: &mut String, name: &str, fees: &Fees) -> Result<()> {
    let claims = if fees.rows == 0 { String::new() } else { grouped(fees.rows) };
    let each = if fees.rows == 0 { String::new() } else { quotient(fees.fee_lamports, fees.rows) };
    let columns = [grouped(fees.transactions), claims, grouped(fees.fee_lamports), each];
    row(text, &format!("  {name}"), columns.each_ref().map(String::as_str))
}

fn refusal(act: &Act) -> String {
    match &act.refused {
        Some(reason) => reason.to_string(),
        None => "not refused".to_owned(),
    }
}
