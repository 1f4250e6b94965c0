//! The scheme `exact` of x402 on Solana: a client's transaction pays its payee exactly what was asked, and a sponsor pays
//! the network's fee for it. Here stands what the sponsor checks before it does; no I/O, no clock, no key.
//!
//! [`check`] is the one place that makes a [`Payment`], and everything that is refused is a [`Fault`] with the name that the
//! x402 reference has for it, in the reference's order. What only the chain can say is beside: [`check_mint`] for the mints
//! of Token-2022, and a simulation, which is the caller's.
//!
//! What the scheme demands of a payment on Solana, and so what holds of every [`Payment`] (the fuzz target `payments` searches for
//! one of which it does not):
//!
//! * **It pays.** Exactly one instruction of a token program: a `TransferChecked` of exactly the amount that was asked for, of
//!   the mint that was asked for, to the payee's associated token account, signed for by the owner of what is moved.
//! * **It does nothing else.** The programs that run are the compute budget (twice, in front), that token program (third), and
//!   behind it memos, which write nothing, and Lighthouse, which checks, and writes at most notes of its own that its signer
//!   pays for: the client, because the sponsor is in none of them.
//! * **The sponsor pays the fee and no more.** It is the first account and in no instruction, neither as an account nor as a
//!   program; nobody but client and sponsor signs; no account is out of sight in a lookup table; compute limit and price are
//!   within the caps.
//! * **It is one payment.** What names it, the hash of its message, does not change with what stands in the sponsor's place.
//!
//! The wire types of the published crates of x402 are not used here: they bring their own Solana client with them, another
//! major version of it than this house's, and do not separate what cannot be read from what is refused by name.
//!
//! Reading path: [`Fault`] (what can be wrong) → [`check`] (in which order) → `layout` (what an instruction is) →
//! [`check_mint`].
#![forbid(unsafe_code)]

mod check;
mod fault;
mod layout;
mod mint;

pub use check::{Caps, Denied, Payment, check};
pub use fault::Fault;
pub use mint::check_mint;
