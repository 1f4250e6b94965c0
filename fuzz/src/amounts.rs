//! Amounts and prices as people and x402 write them, and the other texts of one value.

use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Key, Network, Reason, Signature, decimal};

/// The first byte is the mint's decimals, the rest is text.
pub(crate) fn amounts(data: &[u8]) {
    let Some((decimals, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    price(text, *decimals);
    // One amount has one spelling on the wire.
    match decimal::parse(text) {
        Ok(amount) => assert_eq!(amount.to_string(), text),
        Err(rejection) => {
            assert_eq!(rejection, Rejection::MalformedAmount);
            assert!(text.parse::<u64>().map_or(true, |number| number.to_string() != text));
        }
    }
    names(text);
}

/// Exactly the number that is written, or a refusal: never a rounded one.
fn price(text: &str, decimals: u8) {
    let read = Amount::parse_decimal(text, decimals);
    assert_eq!(read.ok().map(Amount::get), by_hand(text, decimals), "{text:?} with {decimals} decimals");
    if let Ok(amount) = read
        && decimals < 20
    {
        let shown = amount.decimal(decimals).to_string();
        assert_eq!(Amount::parse_decimal(&shown, decimals), Ok(amount), "{shown} is shown for {text}");
    }
    if let Err(rejection) = read {
        assert_eq!(rejection, Rejection::MalformedAmount);
    }
}

/// The same by another way: the digits are put side by side, and only then made a number.
fn by_hand(text: &str, decimals: u8) -> Option<u64> {
    let text = text.strip_prefix('$').unwrap_or(text);
    let mut parts = text.split('.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(""));
    let digits = whole.len() + fraction.len();
    let plain = whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit());
    if parts.next().is_some() || digits == 0 || !plain || fraction.len() > usize::from(decimals) {
        return None;
    }
    let zeros = "0".repeat(usize::from(decimals) - fraction.len());
    let all = format!("{whole}{fraction}{zeros}");
    let significant = all.trim_start_matches('0');
    if significant.len() > 20 {
        return None;
    }
    u64::try_from(significant.parse::<u128>().unwrap_or(0)).ok()
}

/// Keys, signatures, networks and names read back as they are written.
fn names(text: &str) {
    if let Ok(key) = text.parse::<Key>() {
        assert_eq!(key.to_string(), text, "base58 of 32 bytes has one spelling");
    }
    if let Ok(signature) = text.parse::<Signature>() {
        assert_eq!(signature.to_string(), text);
    }
    if let Ok(key) = Key::from_base58_or_hex(text) {
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(key.to_string() == text || hex == text.to_lowercase());
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.as_str(), text);
    }
    let reason = Reason::from(text.to_owned());
    assert!(reason.name().chars().count() <= Reason::MAX_CHARS.max(32));
    assert_eq!(Reason::from(reason.name().to_owned()), reason);
}
