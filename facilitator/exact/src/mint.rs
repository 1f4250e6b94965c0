//! What the extensions of a Token-2022 mint would do to a transfer.

use crate::Fault;

/// Where the kind of an account with extensions stands, and after it the extensions.
const KIND_AT: usize = 165;
const KIND_MINT: u8 = 1;
/// Numbers of extensions.
const TRANSFER_FEE: u16 = 1;
const TRANSFER_HOOK: u16 = 14;
/// Where the two rates of a transfer fee stand, the one that counts now and the one of a later epoch: behind two
/// authorities, what was withheld, and an epoch and a maximum each.
const RATES_AT: [usize; 2] = [32 + 32 + 8 + 16, 32 + 32 + 8 + 18 + 16];
/// Where the program of a transfer hook stands: behind its authority.
const HOOK_AT: usize = 32;

/// Refuses a mint of Token-2022 of whose transfers the payee would not get all: [`Fault::MintTakesFromTransfers`]. A mint
/// that could take a fee or name a hook and does neither is fine: a fee is announced an epoch ahead, and a hook that comes
/// makes the transfer fail.
pub fn check_mint(data: &[u8]) -> Result<(), Fault> {
    let Some(extensions) = data.get(KIND_AT..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
    let (kind, mut rest) = extensions.split_first().ok_or(Fault::MintMismatch)?;
    if *kind != KIND_MINT {
        return Err(Fault::MintMismatch);
    }
    while let Some((number, value, after)) = next(rest)? {
        let takes = match number {
            TRANSFER_FEE => RATES_AT.iter().any(|at| value.get(*at..at.saturating_add(2)) != Some(&[0, 0])),
            TRANSFER_HOOK => value.get(HOOK_AT..) != Some(&[0; 32]),
            _ => false,
        };
        if takes {
            return Err(Fault::MintTakesFromTransfers);
        }
        rest = after;
    }
    Ok(())
}

/// One extension of a mint, and what follows it.
type Extension<'a> = (u16, &'a [u8], &'a [u8]);

/// The next extension, as (number, value, rest); none at the end, which is zeros or nothing. One that is cut off is no
/// mint that can be judged.
fn next(rest: &[u8]) -> Result<Option<Extension<'_>>, Fault> {
    let Some((number, after)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let number = u16::from_le_bytes(*number);
    if number == 0 {
        return Ok(None);
    }
    let cut = Fault::MintTakesFromTransfers;
    let (length, after) = after.split_first_chunk::<2>().ok_or(cut)?;
    let (value, rest) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(cut)?;
    Ok(Some((number, value, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mint(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut data = vec![0; KIND_AT];
        data.push(KIND_MINT);
        for (number, value) in extensions {
            data.extend(number.to_le_bytes());
            data.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            data.extend(value);
        }
        data
    }

    fn fee(now: u16, later: u16) -> (u16, Vec<u8>) {
        let mut value = vec![7; 72];
        for rate in [now, later] {
            value.extend([9; 16]);
            value.extend(rate.to_le_bytes());
        }
        (TRANSFER_FEE, value)
    }

    fn hook(program: u8) -> (u16, Vec<u8>) {
        (TRANSFER_HOOK, [[3; 32], [program; 32]].concat())
    }

    #[test]
    fn given_mints_when_looked_at_then_only_those_that_take_from_transfers_are_refused() {
        let metadata = (18, vec![5; 64]);
        for good in [
            vec![0; 82],
            mint(&[]),
            mint(std::slice::from_ref(&metadata)),
            mint(&[fee(0, 0), hook(0), metadata.clone()]),
            [mint(&[fee(0, 0)]), vec![0; 20]].concat(),
        ] {
            assert_eq!(check_mint(&good), Ok(()));
        }
        for bad in [
            mint(&[metadata.clone(), fee(1, 0)]),
            mint(&[fee(0, 1)]),
            mint(&[fee(0, 256)]),
            mint(&[metadata.clone(), hook(1)]),
            mint(&[(TRANSFER_HOOK, vec![0; 32])]),
            mint(&[(TRANSFER_FEE, vec![0; 40])]),
            mint(&[metadata])[..180].to_vec(),
        ] {
            assert_eq!(check_mint(&bad), Err(Fault::MintTakesFromTransfers));
        }
        let mut account = mint(&[]);
        account[KIND_AT] = 2;
        assert_eq!(check_mint(&account), Err(Fault::MintMismatch));
    }
}
