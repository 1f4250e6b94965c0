//! The record that a facilitator keeps of its payments, for auditors: one JSON object a line, each with the hash of the line
//! before it, so that a line that is changed, taken out or put in shows.
//!
//! A line names a voucher by the SHA-256 of its signature: whoever holds the voucher can find its line, and whoever holds the
//! record cannot claim with it.

use crate::{Key, Reason, Signature, decimal};
use serde::{Deserialize, Serialize};
use std::fmt;
use tallybook_rules::signing::Sha2;
use tallybook_rules::{Amount, Hasher, Rejection};

/// The longest line, in bytes.
pub const MAX_AUDIT_LINE_BYTES: usize = 2_048;

/// What was asked of a facilitator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Asked {
    /// `/verify` of a voucher: the amount is the call's ceiling.
    Reserve,
    /// `/settle` of a voucher: the amount is what the call cost.
    Commit,
    /// `/release` of a voucher.
    Release,
    /// `/verify` of a deposit: the amount is what would be put in.
    CheckDeposit,
    /// `/settle` of a deposit: the amount is what was put in.
    Deposit,
    /// `/verify` of a refund.
    PrepareRefund,
    /// `/settle` of a refund: the amount is what went back.
    Refund,
    /// `/verify` of a payment by another scheme: the amount is what would be paid.
    CheckPayment,
    /// `/settle` of a payment by another scheme: the amount is what was paid.
    Pay,
    /// A voucher of `/vouchers`: the amount is what was charged in all.
    Forward,
    /// A transaction of `/books/{book}/pages`.
    Page,
    /// By an administrator: nothing new is taken on.
    Pause,
    /// By an administrator: what is new is taken on again.
    Resume,
    /// By an administrator: everything is claimed.
    SettleNow,
    /// By an administrator: the store is copied.
    Backup,
    /// By an administrator: what a page owes is paid out. The amount is what it owed.
    PayOut,
    /// By an administrator: the newest voucher of every channel, for a watchtower.
    Export,
    /// Somebody signed in at the operator's page.
    SignIn,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// The line's number, from 1.
    pub number: u64,
    /// When it was answered, in milliseconds of Unix time.
    pub at: u64,
    /// What was asked.
    pub asked: Asked,
    /// Why it was refused; not there when it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Reason>,
    /// The book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<Key>,
    /// The page of an administrator's act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Key>,
    /// Which administrator, where a name is known: a proxy gives one, a token does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Who pays, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Key>,
    /// Who is paid, where no book says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee: Option<Key>,
    /// The channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<Key>,
    /// The voucher's total since its channel was opened, in base units.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub cumulative: Option<Amount>,
    /// In base units; of what, [`Asked`] says.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The SHA-256 of the voucher's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_hash: Option<Key>,
    /// What was sent to the chain for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Signature>,
    /// The SHA-256 of the line before, without its line break; zeros for the first.
    pub previous: Key,
}

/// Why a record is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BrokenRecord {
    /// The line of this number is no line of a record.
    Unreadable(u64),
    /// The line of this number does not follow the one before it.
    Unlinked(u64),
}

impl fmt::Display for BrokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(at) => write!(f, "line {at} is no line of a record"),
            Self::Unlinked(at) => {
                write!(
                    f,
                    "line {at} does not follow the one before it: something was changed, taken out or put in there"
                )
            }
        }
    }
}

impl std::error::Error for BrokenRecord {}

/// The end of a record, to which the next line is linked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AuditChain {
    /// The number of the last line; 0 before the first.
    pub number: u64,
    /// The SHA-256 of the last line.
    pub hash: Key,
}

impl AuditChain {
    /// Numbers and links a line, and gives its text without line break.
    pub fn append(&mut self, line: &mut AuditLine) -> Result<String, Rejection> {
        line.number = self.number.checked_add(1).ok_or(Rejection::Overflow)?;
        line.previous = self.hash;
        let text = serde_json::to_string(line).map_err(|_| Rejection::MalformedPayload)?;
        self.follow(line.number, &text);
        Ok(text)
    }

    /// Takes the next line of a record that is read from its beginning.
    pub fn check(&mut self, text: &str) -> Result<AuditLine, BrokenRecord> {
        let number = self.number.saturating_add(1);
        let line = Self::read(text).ok_or(BrokenRecord::Unreadable(number))?;
        if line.number != number || line.previous != self.hash {
            return Err(BrokenRecord::Unlinked(number));
        }
        self.follow(number, text);
        Ok(line)
    }

    /// The end of a record whose last line this is.
    pub fn after(text: &str) -> Option<Self> {
        let mut chain = Self::default();
        chain.follow(Self::read(text)?.number, text);
        Some(chain)
    }

    fn read(text: &str) -> Option<AuditLine> {
        if text.len() > MAX_AUDIT_LINE_BYTES { None } else { serde_json::from_str(text).ok() }
    }

    fn follow(&mut self, number: u64, text: &str) {
        *self = Self { number, hash: Key(Sha2::sha256(&[text.as_bytes()])) };
    }
}

/// The hash that stands for a voucher in a record.
pub fn voucher_hash(signature: &Signature) -> Key {
    Key(Sha2::sha256(&[&signature.0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(asked: Asked) -> AuditLine {
        AuditLine {
            number: 0,
            at: 1_800_000_000_123,
            asked,
            refused: None,
            book: Some(Key([1; 32])),
            page: None,
            by: None,
            payer: None,
            payee: None,
            channel_id: Some(Key([2; 32])),
            cumulative: Some(Amount::new(1_500)),
            amount: Some(Amount::new(500)),
            voucher_hash: Some(voucher_hash(&Signature([3; 64]))),
            transaction: None,
            previous: Key::default(),
        }
    }

    fn record() -> Vec<String> {
        let mut chain = AuditChain::default();
        [Asked::Reserve, Asked::Commit, Asked::Release].map(|asked| chain.append(&mut line(asked)).unwrap()).to_vec()
    }

    fn check(lines: &[String]) -> Result<AuditChain, BrokenRecord> {
        let mut chain = AuditChain::default();
        lines.iter().try_for_each(|line| chain.check(line).map(drop)).map(|()| chain)
    }

    #[test]
    fn given_a_record_when_it_is_read_then_it_is_whole_and_ends_where_it_says() {
        let lines = record();
        let chain = check(&lines).unwrap();
        assert_eq!(chain.number, 3);
        assert_eq!(AuditChain::after(&lines[2]), Some(chain), "going on needs the last line only");
        assert!(
            lines[0].contains(r#""asked":"reserve""#) && lines[0].contains(r#""cumulative":"1500""#),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn given_a_record_when_a_line_is_changed_taken_out_swapped_or_put_in_then_the_line_is_named() {
        let lines = record();
        let changed = lines[1].replace("\"500\"", "\"50\"");
        for (broken, at) in [
            (vec![lines[0].clone(), changed, lines[2].clone()], 3),
            (vec![lines[0].clone(), lines[2].clone()], 2),
            (vec![lines[1].clone(), lines[2].clone()], 1),
            (vec![lines[0].clone(), lines[2].clone(), lines[1].clone()], 2),
            (vec![lines[0].clone(), lines[0].clone(), lines[1].clone()], 2),
        ] {
            assert_eq!(check(&broken), Err(BrokenRecord::Unlinked(at)));
        }
        assert_eq!(check(&[lines[0].clone(), "{}".to_owned()]), Err(BrokenRecord::Unreadable(2)));
        assert_eq!(check(&["x".repeat(MAX_AUDIT_LINE_BYTES + 1)]), Err(BrokenRecord::Unreadable(1)));
    }
}
