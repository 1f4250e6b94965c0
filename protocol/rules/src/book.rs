use crate::{Amount, Rejection};
use bytemuck::{Pod, Zeroable};

/// Basis points of a whole.
pub const TOTAL_BASIS_POINTS: u16 = 10_000;
/// The payee's own leg and four splits.
pub const MAX_LEGS: usize = 5;
/// The most splits that a book can have.
pub const MAX_SPLITS: usize = MAX_LEGS - 1;

/// One recipient of payouts. Leg 0 is the payee's, the splits follow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Leg {
    /// Who is paid.
    pub recipient: [u8; 32],
    /// The recipient's associated token account for the book's mint, derived when the book was made.
    pub account: [u8; 32],
    /// The share of everything claimed.
    pub basis_points: u16,
}

/// What a payee offers: the book account after its 8-byte discriminator, 576 bytes.
///
/// Everything but `operator` and `next_page` is fixed when the book is made, so terms cannot change under a payer.
/// A book is never closed: its page counter keeps old vouchers from meeting a page of the same address again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Book {
    /// Who is paid.
    pub payee: [u8; 32],
    /// The token, e.g. USDC.
    pub mint: [u8; 32],
    /// SPL Token or Token-2022: the owner of `mint`.
    pub token_program: [u8; 32],
    /// The resource server's key: may refund payers and add pages. Set by the payee.
    pub operator: [u8; 32],
    /// Who paid this account's rent.
    pub rent_payer: [u8; 32],
    /// The cluster, as its genesis hash; clients compare it with their own.
    pub genesis_hash: [u8; 32],
    /// The smallest deposit of a channel, in base units.
    pub min_deposit: Amount,
    /// How long a payer who leaves waits, and the payee may still claim, in seconds.
    pub grace_seconds: u32,
    /// After how long without a claim the payee may begin to close a channel, in seconds; 0 is never.
    pub max_idle_seconds: u32,
    /// The index that the next page gets; counts up only.
    pub next_page: u32,
    /// Tells books of one payee and mint apart.
    pub book_id: u16,
    /// Decimals of the mint.
    pub decimals: u8,
    /// 0 anyone may open, 1 the operator co-signs.
    pub open_policy: u8,
    /// How many of `legs` are in use, 1 ..= 5.
    pub leg_count: u8,
    /// Layout version: [`Book::VERSION`].
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// For later versions; zero.
    pub spare: [u8; 21],
    /// The recipients; only the first `leg_count` count.
    pub legs: [Leg; MAX_LEGS],
    /// For later versions; zero.
    pub spare_tail: [u8; 6],
}

const _: () = assert!(size_of::<Book>() == Book::SIZE, "a book is 576 bytes after its discriminator");

/// Who may open a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenPolicy {
    /// Anyone.
    Anyone,
    /// Only with the operator's signature.
    OperatorCoSigns,
}

/// The terms that a payee fixes when it makes a book.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Seconds, 900 ..= 2,592,000.
    pub grace_seconds: u32,
    /// Seconds; 0, or at least 86,400.
    pub max_idle_seconds: u32,
    /// Base units, 1 ..= 2^48 − 1.
    pub min_deposit: Amount,
    /// 0 or 1, see [`OpenPolicy`].
    pub open_policy: u8,
}

impl Terms {
    /// The shortest grace period: 15 minutes, time for a watcher to see a close and claim.
    pub const MIN_GRACE_SECONDS: u32 = 900;
    /// The longest grace period: 30 days.
    pub const MAX_GRACE_SECONDS: u32 = 2_592_000;
    /// The shortest idle limit: a day.
    pub const MIN_IDLE_SECONDS: u32 = 86_400;

    /// Refuses terms out of range, in order of precedence.
    pub fn check(&self) -> Result<(), Rejection> {
        if !(Self::MIN_GRACE_SECONDS..=Self::MAX_GRACE_SECONDS).contains(&self.grace_seconds) {
            return Err(Rejection::GraceOutOfRange);
        }
        if self.max_idle_seconds != 0 && self.max_idle_seconds < Self::MIN_IDLE_SECONDS {
            return Err(Rejection::IdleOutOfRange);
        }
        if self.min_deposit.is_zero() || self.min_deposit >= Amount::DEPOSIT_LIMIT {
            return Err(Rejection::MinDepositOutOfRange);
        }
        OpenPolicy::from_byte(self.open_policy).map(|_| ())
    }
}

impl OpenPolicy {
    /// Reads the byte of the account.
    pub const fn from_byte(byte: u8) -> Result<Self, Rejection> {
        match byte {
            0 => Ok(Self::Anyone),
            1 => Ok(Self::OperatorCoSigns),
            _ => Err(Rejection::UnknownOpenPolicy),
        }
    }
}

impl Book {
    /// Bytes after the 8-byte account discriminator.
    pub const SIZE: usize = 576;
    /// The layout version that this code reads and writes.
    pub const VERSION: u8 = 1;

    /// The payee's own share when `splits` (recipient, basis points) take theirs; refuses splits that are too many,
    /// empty, to the payee or to one recipient twice, or more than the whole.
    pub fn payee_share(payee: &[u8; 32], splits: &[([u8; 32], u16)]) -> Result<u16, Rejection> {
        if splits.len() > MAX_SPLITS {
            return Err(Rejection::BadSplits);
        }
        let mut rest = TOTAL_BASIS_POINTS;
        for (at, (recipient, basis_points)) in splits.iter().enumerate() {
            let twice = splits.iter().take(at).any(|(other, _)| other == recipient);
            if *basis_points == 0 || *recipient == [0; 32] || recipient == payee || twice {
                return Err(Rejection::BadSplits);
            }
            rest = rest.checked_sub(*basis_points).ok_or(Rejection::BadSplits)?;
        }
        Ok(rest)
    }

    /// The legs in use.
    pub fn legs(&self) -> &[Leg] {
        self.legs.get(..usize::from(self.leg_count)).unwrap_or(&self.legs)
    }
}
