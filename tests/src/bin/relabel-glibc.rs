//! Lets a program run on an older glibc than it was linked with, where all that it takes from the newer one is weak:
//! `relabel-glibc FILE GLIBC_2.39 GLIBC_2.34` changes FILE so that it asks for the older version only.
//!
//! A weak symbol that is missing is null, and programs with weak symbols look before they call. The loader, however,
//! refuses a program that names an unknown version at all, weak or not.

use std::error::Error;
use std::fs;

/// Kinds of sections: ELF's symbol tables and GNU's notes on versions.
const DYNSYM: u32 = 11;
const VERNEED: u32 = 0x6fff_fffe;
const VERSYM: u32 = 0x6fff_ffff;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
/// The binding of a weak symbol, in the upper half of its `info`.
const WEAK: u8 = 2;
/// The bit of a symbol's version that hides it.
const HIDDEN: u16 = 0x8000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, from, to] = arguments.as_slice() else {
        return Err("usage: relabel-glibc FILE FROM TO, e.g. anchor GLIBC_2.39 GLIBC_2.34".into());
    };
    let mut elf = fs::read(file)?;
    if relabel(&mut elf, from, to)? {
        fs::write(file, elf)?;
    }
    Ok(())
}

/// Puts `to` in the place of the version `from`; false when it is not asked for. Fails where a symbol of it is needed.
fn relabel(elf: &mut [u8], from: &str, to: &str) -> Result<bool, String> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF file".into());
    }
    let needs = needs(elf)?;
    let Some(old) = needs.iter().find(|need| need.name == from) else { return Ok(false) };
    let new = needs.iter().find(|need| need.name == to).ok_or(format!("the file does not use {to}"))?;
    if let Some(symbol) = symbols_of(elf, old.index)?.into_iter().find(|symbol| !symbol.weak) {
        return Err(format!("{} is not weak: this needs {from}", symbol.name));
    }
    // An entry: hash u32, flags u16, index u16, name u32, next u32. Hash and name say which version it is.
    let (hash, name) = (read::<4>(elf, new.at)?, read::<4>(elf, new.at.saturating_add(8))?);
    write(elf, old.at, hash)?;
    write(elf, old.at.saturating_add(8), name)?;
    Ok(true)
}

/// A version of a library that the file asks for.
struct Need {
    at: usize,
    index: u16,
    name: String,
}

struct Symbol {
    name: String,
    weak: bool,
}

struct Section {
    kind: u32,
    /// Where the section's text is, as a number of a section.
    link: usize,
    at: usize,
    bytes: usize,
}

fn sections(elf: &[u8]) -> Result<Vec<Section>, String> {
    let (table, count) = (long(elf, 0x28)?, usize::from(short(elf, 0x3c)?));
    let starts = (0..count).map(|number| table.saturating_add(number.saturating_mul(SECTION_BYTES)));
    starts
        .map(|start| {
            Ok(Section {
                kind: u32::from_le_bytes(read(elf, start.saturating_add(4))?),
                link: word(elf, start.saturating_add(40))?,
                at: long(elf, start.saturating_add(24))?,
                bytes: long(elf, start.saturating_add(32))?,
            })
        })
        .collect()
}

fn section(sections: &[Section], kind: u32) -> Result<&Section, String> {
    sections.iter().find(|section| section.kind == kind).ok_or_else(|| format!("no section of kind {kind:#x}"))
}

/// All versions that the file asks for: a list of libraries, each with a list of versions.
fn needs(elf: &[u8]) -> Result<Vec<Need>, String> {
    let sections = sections(elf)?;
    let table = section(&sections, VERNEED)?;
    let text = sections.get(table.link).ok_or("the versions have no names")?;
    let (mut library, mut needs) = (table.at, Vec::new());
    loop {
        // A library: version u16, count u16, name u32, first entry u32, next library u32.
        let mut at = library.saturating_add(word(elf, library.saturating_add(8))?);
        for _ in 0..short(elf, library.saturating_add(2))? {
            let name = name(elf, text, word(elf, at.saturating_add(8))?)?;
            needs.push(Need { at, index: short(elf, at.saturating_add(6))?, name });
            at = at.saturating_add(word(elf, at.saturating_add(12))?);
        }
        match word(elf, library.saturating_add(12))? {
            0 => return Ok(needs),
            next => library = library.saturating_add(next),
        }
    }
}

/// The symbols that are taken from the version numbered `index`.
fn symbols_of(elf: &[u8], index: u16) -> Result<Vec<Symbol>, String> {
    let sections = sections(elf)?;
    let (table, versions) = (section(&sections, DYNSYM)?, section(&sections, VERSYM)?);
    let text = sections.get(table.link).ok_or("the symbols have no names")?;
    let count = table.bytes.checked_div(SYMBOL_BYTES).unwrap_or_default();
    let mut symbols = Vec::new();
    for number in 0..count {
        let version = short(elf, versions.at.saturating_add(number.saturating_mul(2)))?;
        if version & !HIDDEN == index {
            // A symbol: name u32, info u8, and more.
            let at = table.at.saturating_add(number.saturating_mul(SYMBOL_BYTES));
            let [info] = read::<1>(elf, at.saturating_add(4))?;
            symbols.push(Symbol { name: name(elf, text, word(elf, at)?)?, weak: info >> 4 == WEAK });
        }
    }
    Ok(symbols)
}

/// The text at `offset` of a section of names.
fn name(elf: &[u8], text: &Section, offset: usize) -> Result<String, String> {
    let rest = elf.get(text.at.saturating_add(offset)..).ok_or("a name out of range")?;
    Ok(rest.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
}

fn read<const N: usize>(elf: &[u8], at: usize) -> Result<[u8; N], String> {
    elf.get(at..).and_then(|rest| rest.first_chunk().copied()).ok_or_else(|| "the file is cut off".into())
}

fn write(elf: &mut [u8], at: usize, bytes: [u8; 4]) -> Result<(), String> {
    let place = elf.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or("the file is cut off")?;
    *place = bytes;
    Ok(())
}

fn short(elf: &[u8], at: usize) -> Result<u16, String> {
    read(elf, at).map(u16::from_le_bytes)
}

fn word(elf: &[u8], at: usize) -> Result<usize, String> {
    usize::try_from(u32::from_le_bytes(read(elf, at)?)).map_err(|error| error.to_string())
}

fn long(elf: &[u8], at: usize) -> Result<usize, String> {
    usize::try_from(u64::from_le_bytes(read(elf, at)?)).map_err(|error| error.to_string())
}
