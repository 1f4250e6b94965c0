//! Prints the program's IDL, made on the host by Anchor's own builder. Run by `idl/check.sh`.

use anchor_lang::idl::build::IdlBuilder;

#[expect(clippy::print_stdout, reason = "printing it is what this is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where rustup says which toolchain runs, the builder installs that toolchain anew: an update of this machine.
    if std::env::var_os("RUSTUP_TOOLCHAIN").is_some() {
        return Err("run idl/check.sh: not under `cargo run`, which sets RUSTUP_TOOLCHAIN".into());
    }
    let cargo_args = std::env::args().skip(1).collect();
    let idl = IdlBuilder::new().program_path(env!("CARGO_MANIFEST_DIR").into()).cargo_args(cargo_args).build()?;
    println!("{}", anchor_lang::idl::serde_json::to_string_pretty(&idl)?);
    Ok(())
}
