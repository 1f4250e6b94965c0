//! Changes to texts, made by rule: the same in every run.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;

/// Pieces that mean something to one of the readers.
const WORDS: [&[u8]; 18] = [
    b"[",
    b"]",
    b"\"",
    b"=",
    b"\n",
    b"#",
    b",",
    b"{}",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e9",
    b"true",
    b"\xff",
    b"\0",
    b"[limits]\n",
    b"access_token = ",
    b"--- environment\n",
];

/// Hands every input over as it is, and then `times` changed forms of each; says how many in all.
pub(crate) fn each(corpus: &[(PathBuf, Vec<u8>)], times: u64, read: impl Fn(&[u8])) -> u64 {
    let mut count = 0;
    for (at, (_, input)) in (0u64..).zip(corpus) {
        read(input);
        for seed in 0..times {
            let mut random = StdRng::seed_from_u64(at << 32 | seed);
            let mut changed = input.clone();
            for _ in 0..random.random_range(1..4) {
                change(&mut changed, corpus, &mut random);
            }
            read(&changed);
        }
        count += 1 + times;
    }
    count
}

fn change(bytes: &mut Vec<u8>, corpus: &[(PathBuf, Vec<u8>)], random: &mut StdRng) {
    let place = |bytes: &[u8], random: &mut StdRng| random.random_range(0..=bytes.len());
    let (from, to) = (place(bytes, random), place(bytes, random));
    let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 40));
    match random.random_range(0..5) {
        0 => drop(bytes.drain(from..to)),
        1 => {
            let piece = bytes[from..to].to_vec();
            bytes.splice(from..from, piece);
        }
        2 => {
            let word = WORDS[random.random_range(0..WORDS.len())];
            bytes.splice(from..from, word.iter().copied());
        }
        3 => {
            let (_, other) = &corpus[random.random_range(0..corpus.len())];
            let other_from = place(other, random);
            let piece = other[other_from..].iter().take(60).copied().collect::<Vec<_>>();
            bytes.splice(from..to, piece);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte = random.random();
            }
        }
    }
}
