//! The bytes that are signed and hashed. Pinned by the golden vectors in `tests/vectors`.

use crate::{Amount, Slot};

/// First bytes of a page domain: names product, purpose and version.
pub const PAGE_DOMAIN_TAG: &[u8; 17] = b"tallybook:page:v1";
/// First bytes of a voucher: `"TB"`, version 1. `0x54` opens no Solana message, so a voucher is never a transaction.
pub const VOUCHER_MAGIC: [u8; 3] = *b"TB\x01";
/// Bytes of a voucher: magic, channel id, cumulative.
pub const VOUCHER_BYTES: usize = 43;

/// The hash functions, as the caller's platform has them: the `sha2` crate on a host, syscalls in the virtual machine.
pub trait Hasher {
    /// SHA-256 over the concatenation of `parts`.
    fn sha256(parts: &[&[u8]]) -> [u8; 32];
}

/// `SHA-256("tallybook:page:v1" ‖ program_id ‖ genesis_hash ‖ page)`: binds every voucher of a page to the program, the
/// cluster and the page.
pub fn page_domain<H: Hasher>(program_id: &[u8; 32], genesis_hash: &[u8; 32], page: &[u8; 32]) -> [u8; 32] {
    H::sha256(&[PAGE_DOMAIN_TAG, program_id, genesis_hash, page])
}

/// `SHA-256(page_domain ‖ slot u8 ‖ generation u32 LE ‖ payer ‖ signer)`: names one channel, for good.
pub fn channel_id<H: Hasher>(
    page_domain: &[u8; 32],
    slot: u8,
    generation: u32,
    payer: &[u8; 32],
    signer: &[u8; 32],
) -> [u8; 32] {
    let channel = Slot { payer: *payer, signer: *signer, generation, ..Slot::default() };
    ChannelIds::of(page_domain).id::<H>(slot, &channel)
}

/// The [`channel_id`]s of one page, one after another. What a page's ids begin with stands in one place, since on chain each
/// part of what is hashed costs, and each copy.
#[derive(Clone, Copy, Debug)]
pub struct ChannelIds {
    /// `page_domain ‖ slot ‖ generation`, the last two of the channel before.
    head: [u8; 37],
}

impl ChannelIds {
    /// Those of the page of this domain.
    #[inline]
    pub fn of(page_domain: &[u8; 32]) -> Self {
        let mut head = [0; 37];
        let (domain, _) = head.split_at_mut(page_domain.len());
        domain.copy_from_slice(page_domain);
        Self { head }
    }

    /// The id of the channel in the slot numbered `at`.
    #[inline]
    pub fn id<H: Hasher>(&mut self, at: u8, slot: &Slot) -> [u8; 32] {
        let [.., number, a, b, c, d] = &mut self.head;
        *number = at;
        [*a, *b, *c, *d] = slot.generation.to_le_bytes();
        H::sha256(&[&self.head, slot.payer_and_signer()])
    }
}

/// `"TB" ‖ 0x01 ‖ channel_id ‖ cumulative u64 LE`: the 43 bytes that the channel's signer signs.
#[inline]
pub fn voucher_bytes(channel_id: &[u8; 32], cumulative: Amount) -> [u8; VOUCHER_BYTES] {
    let mut bytes = [0; VOUCHER_BYTES];
    let (magic, rest) = bytes.split_at_mut(VOUCHER_MAGIC.len());
    let (id, amount) = rest.split_at_mut(channel_id.len());
    magic.copy_from_slice(&VOUCHER_MAGIC);
    id.copy_from_slice(channel_id);
    amount.copy_from_slice(&cumulative.get().to_le_bytes());
    bytes
}
