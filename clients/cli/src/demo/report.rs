//! The table at the end, and the checks that decide the exit status.

use super::audit::{Kind, Sent};
use super::cast::{Act, Role};
use super::table::{difference, grouped, milliseconds, quotient, rate, seconds};
use super::{PRICE, Story, Tally};
use crate::dev_chain::DevMint;
use anyhow::Result;
use std::fmt::{self, Write};
use tallybook_rules::Rejection;

const DECIMALS: u8 = DevMint::DECIMALS;

/// Something that must hold, and whether it does.
#[derive(Clone, PartialEq, Eq, Debug)]
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
        let mut text = String::new();
        self.write_calls(&mut text)?;
        self.write_chain(&mut text)?;
        self.write_money(&mut text)?;
        self.write_trouble(&mut text)?;
        Ok(text)
    }

    fn write_calls(&self, text: &mut String) -> Result<()> {
        writeln!(text, "\nCALLS {:>38} {:>10} {:>11} {:>11}", "number", "a second", "p50", "p99")?;
        write_tally(text, "unpaid", &self.unpaid)?;
        write_tally(text, &format!("paid, {PRICE} each"), &self.paid)?;
        let ((p50, p99), (base_p50, base_p99)) = (self.paid.p50_p99(), self.unpaid.p50_p99());
        writeln!(
            text,
            "  {:<52} {:>13} {:>11}",
            "added by paying, at the same concurrency",
            format!("+{}", milliseconds(p50.saturating_sub(base_p50))),
            format!("+{}", milliseconds(p99.saturating_sub(base_p99)))
        )?;
        writeln!(text, "  {:<31} {:>10} {}", "handler failed", grouped(self.paid.failed), " not charged")?;
        writeln!(
            text,
            "  {:<31} {:>10}  up to {} each, once per agent",
            "opened a channel first",
            self.acts.len(),
            seconds(self.paid.opening)
        )?;
        Ok(())
    }

    fn write_chain(&self, text: &mut String) -> Result<()> {
        writeln!(text, "\nON CHAIN {:>35} {:>10} {:>23}", "transactions", "claims", "lamports in fees")?;
        for (kind, name) in [
            (Kind::Open, "open"),
            (Kind::Claim, "claim + payout"),
            (Kind::Refund, "cooperative close"),
            (Kind::Other, "lookup table"),
        ] {
            let fees = fees(&self.sent, kind);
            writeln!(
                text,
                "  {name:<31} {:>10} {:>10} {:>23}",
                grouped(fees.transactions),
                grouped(fees.rows),
                grouped(fees.fee_lamports)
            )?;
        }
        let claims = fees(&self.sent, Kind::Claim);
        let per_claim = quotient(claims.fee_lamports, claims.rows);
        writeln!(text, "  {:<31} {:>10}", "vouchers accepted", grouped(self.paid.served))?;
        writeln!(text, "  {:<31} {:>10}", "claims per transaction", quotient(claims.rows, claims.transactions))?;
        writeln!(text, "  {:<31} {:>10}", "lamports per claim", per_claim)?;
        let rent = fees(&self.sent, Kind::Other);
        let rent = rent.spent_lamports.saturating_sub(rent.fee_lamports);
        writeln!(text, "  {:<31} {:>10}  lamports, once per page", "rent of the lookup table", grouped(rent))?;
        Ok(())
    }

    fn write_money(&self, text: &mut String) -> Result<()> {
        let (before, after) = (&self.before, &self.after);
        writeln!(text, "\nUSDC {:>39} {:>16} {:>17}", "before", "after", "difference")?;
        let parties = [
            ("payee".to_owned(), before.payee, after.payee),
            (format!("{} agents", self.acts.len()), before.agents_in_all()?, after.agents_in_all()?),
            ("vaults".to_owned(), before.vaults, after.vaults),
            ("everybody".to_owned(), before.in_all()?, after.in_all()?),
        ];
        for (name, before, after) in parties {
            writeln!(
                text,
                "  {name:<26} {:>15} {:>16} {:>17}",
                before.decimal(DECIMALS).to_string(),
                after.decimal(DECIMALS).to_string(),
                difference(before, after, DECIMALS)
            )?;
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
        writeln!(text)?;
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
                holds: self.after.vaults.is_zero(),
                what: "The vaults are empty: all was claimed and paid out, or returned.".to_owned(),
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
        let left = self.acts.iter().any(|act| act.role == Role::Leaves && act.closing_at.is_some());
        vec![
            Check {
                holds: refused(Role::Replays, Rejection::VoucherUsed),
                what: "The replayed voucher was refused (voucher_used) and charged nothing.".to_owned(),
            },
            Check {
                holds: refused(Role::Overspends, Rejection::DepositExceeded),
                what: "The voucher above the deposit was refused (deposit_exceeded) and charged nothing.".to_owned(),
            },
            Check { holds: left, what: "The agent that left paid for all its calls and got the rest back.".to_owned() },
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

fn write_tally(text: &mut String, name: &str, tally: &Tally) -> Result<()> {
    let (p50, p99) = tally.p50_p99();
    writeln!(
        text,
        "  {name:<31} {:>10} {:>10} {:>11} {:>11}",
        grouped(tally.served),
        rate(tally.served, tally.time),
        milliseconds(p50),
        milliseconds(p99)
    )?;
    Ok(())
}

fn refusal(act: &Act) -> String {
    match &act.refused {
        Some(reason) => reason.to_string(),
        None => "not refused".to_owned(),
    }
}
