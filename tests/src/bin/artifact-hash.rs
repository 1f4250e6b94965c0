//! Prints the hash of the sources that the released program is built from.

use tallybook_tests::artifact::{root, source_hash};

#[expect(clippy::print_stdout, reason = "printing it is what this is for")]
fn main() -> std::io::Result<()> {
    println!("{}", source_hash(&root())?);
    Ok(())
}
