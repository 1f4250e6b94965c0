//! Deploying: the script in `migrations/`, the loader behind it, and the Anchor CLI, each on a real chain over JSON-RPC.

#![allow(missing_docs, reason = "a test")]

use anyhow::{Context, Result, ensure};
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{PROGRAM_ID, address};
use tallybook_cli::deploy::{Artifact, Brought, Loader};
use tallybook_cli::dev_chain::{Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports};
use tallybook_cli::{connection, keys, say};
use tallybook_rules::Amount;
use tempfile::TempDir;
use tokio::sync::Notify;

const LOADER: Address = solana_address::address!("BPFLoaderUpgradeab1e11111111111111111111111");
/// Bytes of a program's code account before the code.
const CODE_OFFSET: usize = 45;

/// A chain without the program, a mint, and the keys that deploy, in files.
struct Site {
    chain: DevChain,
    mint: DevMint,
    folder: TempDir,
    payee: Keypair,
}

impl Site {
    async fn new() -> Result<Self> {
        let chain = DevChain::start(Ports::Free, Blocks::Every(Duration::from_millis(50))).await?;
        let mint = DevMint::create(&chain, &Keypair::new()).await?;
        let folder = tempfile::tempdir()?;
        let payee = Keypair::new();
        mint.fund(&chain, &[payee.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await?;
        keys::write(&folder.path().join("authority.json"), chain.faucet())?;
        keys::write(&folder.path().join("payee.json"), &payee)?;
        Ok(Self { chain, mint, folder, payee })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the script as an operator does, with more arguments, where nothing was built.
    async fn script(&self, arguments: &[&str]) -> Result<Output> {
        self.script_in(self.folder.path(), arguments).await
    }

    /// The same with a target folder, which may hold a build.
    async fn script_in(&self, target: &Path, arguments: &[&str]) -> Result<Output> {
        let mut script = Command::new(repository().join("migrations/deploy.sh"));
        script.env("CARGO_TARGET_DIR", target);
        script.env("TALLYBOOK", env!("CARGO_BIN_EXE_tallybook-to-run"));
        script.args(["--rpc", &self.chain.rpc_url()]).arg("--keypair").arg(self.file("authority.json"));
        script.args(["--mint", &self.mint.address().to_string()]).arg("--payee").arg(self.file("payee.json"));
        script.args(arguments);
        run(script).await
    }

    fn loader<'a>(&self, authority: &'a Keypair) -> Loader<'a> {
        Loader { rpc: Arc::clone(self.chain.rpc()), authority, compute_price: 1 }
    }

    async fn code(&self) -> Result<Vec<u8>> {
        let (at, _) = Address::find_program_address(&[PROGRAM_ID.as_ref()], &LOADER);
        Ok(self.chain.rpc().get_account_data(&at).await?.split_off(CODE_OFFSET))
    }

    /// Everything that the loader owns: programs, code and buffers.
    async fn loader_accounts(&self) -> Result<usize> {
        Ok(self.chain.rpc().get_program_accounts(&LOADER).await?.len())
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command beside the chain, which is in this process.
async fn run(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The second word of the line that begins with `what`, and whether it says that nothing was to be done.
fn said<'a>(output: &'a str, what: &str) -> (&'a str, bool) {
    let line = output.lines().find(|line| line.starts_with(what)).unwrap_or(output);
    (line.split_whitespace().nth(1).unwrap_or_default(), line.contains("there already, the same"))
}

async fn lamports(rpc: &RpcClient, keys: [Address; 2]) -> Result<[u64; 2]> {
    Ok([rpc.get_balance(&keys[0]).await?, rpc.get_balance(&keys[1]).await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_empty_chain_when_the_script_runs_twice_then_the_second_run_changes_nothing() -> Result<()> {
    // Given a chain without the program
    let site = Site::new().await?;
    let rpc = site.chain.rpc();
    // When the script runs
    let first = text(&site.script(&["--operator", &PROGRAM_ID.to_string()]).await?);
    // Then the program, the payee's book and its first page are there
    let (book, _) = address::book(&PROGRAM_ID, &site.payee.pubkey(), &site.mint.address(), 0);
    let (page, _) = address::page(&PROGRAM_ID, &book, 0);
    assert_eq!(said(&first, "program"), (PROGRAM_ID.to_string().as_str(), false));
    assert_eq!(said(&first, "book"), (book.to_string().as_str(), false));
    assert_eq!(said(&first, "page"), (page.to_string().as_str(), false));
    assert!(rpc.get_account(&PROGRAM_ID).await?.executable);
    assert_eq!(site.code().await?, *Artifact::released()?.elf);
    let view = connection::book(rpc, &book).await?;
    assert_eq!((view.payee(), view.operator(), view.state.next_page), (site.payee.pubkey(), PROGRAM_ID, 1));
    assert_eq!(connection::pages(rpc, &view).await?[0].slots.len(), 96);

    // When it runs again, with or without an operator, which may have been changed since
    let held = lamports(rpc, [site.chain.faucet().pubkey(), site.payee.pubkey()]).await?;
    let arguments: [&[&str]; 2] = [&["--operator", &PROGRAM_ID.to_string()], &[]];
    for arguments in arguments {
        let again = text(&site.script(arguments).await?);
        // Then it says that all is done, and nobody paid for anything
        for what in ["program", "book", "page"] {
            assert!(said(&again, what).1, "{what}: {again}");
        }
    }
    assert_eq!(connection::book(rpc, &book).await?, view);
    assert_eq!(lamports(rpc, [site.chain.faucet().pubkey(), site.payee.pubkey()]).await?, held);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_book_when_the_script_asks_for_other_terms_then_it_fails_and_says_what_to_do() -> Result<()> {
    // Given a book with a page
    let site = Site::new().await?;
    assert!(site.script(&["--grace-seconds", "900"]).await?.status.success());
    let other_operator = PROGRAM_ID.to_string();
    let split = format!("{PROGRAM_ID}=100");
    for (arguments, what) in [
        (["--grace-seconds", "901"], "terms"),
        (["--operator", &other_operator], "terms and operator"),
        (["--split", &split], "terms and splits"),
    ] {
        // When other terms are asked for
        let output = site.script(&arguments).await?;
        // Then it fails and names the way out
        assert!(!output.status.success(), "{arguments:?}");
        let said = text(&output);
        assert!(said.contains(&format!("with other {what}:")) && said.contains("--book-id"), "{said}");
    }
    // When the terms stand in a book of their own, then it is made
    assert!(site.script(&["--grace-seconds", "901", "--book-id", "1"]).await?.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_program_when_another_build_is_brought_then_it_is_upgraded_larger_or_smaller() -> Result<()> {
    // Given the released program, and a build that is larger: what follows the ELF's sections is not looked at
    let site = Site::new().await?;
    let loader = site.loader(site.chain.faucet());
    let released = Artifact::released()?;
    let larger = |by: usize| -> Result<Artifact> {
        Ok(Artifact { elf: Cow::Owned([&*released.elf, &vec![7; by]].concat()), ..Artifact::released()? })
    };
    assert_eq!(loader.bring(&released, |_, _| ()).await?, Brought::Deployed);
    // When it grows by a little, which takes the loader's smallest extension, and by a lot
    for by in [1, 20_000] {
        let larger = larger(by)?;
        assert_eq!(loader.bring(&larger, |_, _| ()).await?, Brought::Upgraded);
        // Then the code on chain is the new one, and the same again is nothing to do
        assert!(site.code().await?.starts_with(&larger.elf));
        assert_eq!(loader.bring(&larger, |_, _| ()).await?, Brought::Same);
    }
    // When it shrinks again, then what was behind it is gone
    assert_eq!(loader.bring(&released, |_, _| ()).await?, Brought::Upgraded);
    let code = site.code().await?;
    assert!(code.starts_with(&released.elf) && code[released.elf.len()..].iter().all(|byte| *byte == 0));
    // And it still works
    assert!(site.script(&[]).await?.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_upload_that_was_broken_off_when_it_is_repeated_then_it_goes_on_and_leaves_no_buffer() -> Result<()> {
    // Given a deployment that was broken off with half of the program on the chain
    let site = Site::new().await?;
    let before = site.loader_accounts().await?;
    let loader = site.loader(site.chain.faucet());
    let artifact = Artifact::released()?;
    let some_written = Notify::new();
    let broken_off = tokio::select! {
        biased;
        () = some_written.notified() => true,
        brought = loader.bring(&artifact, |written, _| if written > 0 { some_written.notify_one() }) => brought.is_err(),
    };
    assert!(broken_off);
    assert_eq!(site.loader_accounts().await?, before.saturating_add(1), "a buffer");
    // When it is repeated
    let at_first = OnceCell::new();
    let remember = |written, _| {
        at_first.get_or_init(|| written);
    };
    assert_eq!(loader.bring(&artifact, remember).await?, Brought::Deployed);
    // Then it did not begin anew, and all that is left is the program and its code
    assert!(at_first.get().is_some_and(|written| *written > 0));
    assert_eq!(site.loader_accounts().await?, before.saturating_add(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_key_that_may_not_or_cannot_pay_when_it_deploys_then_it_spends_nothing_and_learns_why() -> Result<()> {
    // Given somebody without the means, and the same program deployed by somebody else
    let site = Site::new().await?;
    let artifact = Artifact::released()?;
    let refused = async |loader: &Loader<'_>, artifact: &Artifact| {
        let error = loader.bring(artifact, |_, _| ()).await.unwrap_err();
        format!("{error:#}")
    };
    // When it deploys, then it is told how much is missing
    let poor = site.loader(&site.payee);
    let said = refused(&poor, &artifact).await;
    assert!(said.contains("is short of") && said.contains("SOL"), "{said}");
    // When it upgrades what is another's, then it is told whose
    site.loader(site.chain.faucet()).bring(&artifact, |_, _| ()).await?;
    let other = Artifact { elf: Cow::Owned([&*artifact.elf, &[1]].concat()), ..Artifact::released()? };
    let said = refused(&poor, &other).await;
    assert!(said.contains(&site.chain.faucet().pubkey().to_string()) && said.contains("--keypair"), "{said}");
    assert_eq!(site.chain.rpc().get_balance(&site.payee.pubkey()).await?, LAMPORTS_PER_SOL);
    // When what is there is the same, then nobody needs to be asked
    assert_eq!(poor.bring(&artifact, |_, _| ()).await?, Brought::Same);

    // When the authority is dropped, then its own key cannot upgrade any more, and is told so
    drop_authority(&site.chain).await?;
    let owner = site.loader(site.chain.faucet());
    let said = refused(&owner, &other).await;
    assert!(said.contains("is final"), "{said}");
    assert_eq!(owner.upgrade_authority(&PROGRAM_ID).await?, None);
    Ok(())
}

/// `solana program set-upgrade-authority --final`.
async fn drop_authority(chain: &DevChain) -> Result<()> {
    const SET_AUTHORITY: [u8; 4] = 4_u32.to_le_bytes();
    let (code, _) = Address::find_program_address(&[PROGRAM_ID.as_ref()], &LOADER);
    let accounts = vec![AccountMeta::new(code, false), AccountMeta::new_readonly(chain.faucet().pubkey(), true)];
    chain.send(&[Instruction::new_with_bytes(LOADER, &SET_AUTHORITY, accounts)], &[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_public_cluster_when_the_public_key_is_to_be_used_then_nothing_is_sent() -> Result<()> {
    // Given an endpoint that is not on this machine, and never answers
    let site = Site::new().await?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-to-run"));
    command.args(["deploy", "--rpc", "https://chain.invalid", "--keypair"]).arg(site.file("authority.json"));
    // When the released program is to go there
    let output = run(command).await?;
    // Then that is refused before the chain is asked
    assert!(!output.status.success());
    assert!(text(&output).contains("anchor keys sync"), "{}", text(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_the_anchor_cli_when_it_deploys_the_artifact_then_the_chain_has_it_and_the_script_goes_on() -> Result<()>
{
    let Some(anchor) = anchor()? else {
        // Past the test harness, which keeps what passing tests print to itself.
        say(format_args!(
            "NOT RUN: `anchor deploy` of the released program, as no Anchor CLI 1.0 or later was found. Put `anchor` on \
             the PATH or its file into TALLYBOOK_ANCHOR to have it checked."
        ));
        return Ok(());
    };
    // Given an Anchor workspace with a built program in it
    let site = Site::new().await?;
    let workspace = anchor_workspace()?;
    let mut deploy = Command::new(anchor);
    deploy.current_dir(&workspace).args(["deploy", "--no-idl", "--provider.cluster", &site.chain.rpc_url()]);
    deploy.arg("--provider.wallet").arg(site.file("authority.json"));
    // Nothing of this machine's settings, and nothing that could change its toolchains.
    deploy.env("HOME", workspace.path()).env("RUSTUP_AUTO_INSTALL", "0").env_remove("RUSTUP_TOOLCHAIN");
    // When Anchor deploys it
    let output = run(deploy).await?;
    // Then the chain has it, byte for byte
    assert!(output.status.success(), "{}", text(&output));
    let account = site.chain.rpc().get_account(&PROGRAM_ID).await?;
    assert!(account.executable && account.owner == LOADER);
    let (code, elf) = (site.code().await?, Artifact::released()?.elf);
    assert!(code.starts_with(&elf) && code[elf.len()..].iter().all(|byte| *byte == 0));
    // And the script finds it, and makes the rest
    let target = workspace.path().join("target");
    let first = text(&site.script_in(&target, &[]).await?);
    assert!(said(&first, "program").1 && !said(&first, "book").1 && !said(&first, "page").1, "{first}");
    let again = text(&site.script_in(&target, &[]).await?);
    assert!(said(&again, "program").1 && said(&again, "book").1 && said(&again, "page").1, "{again}");
    Ok(())
}

/// The Anchor CLI: `TALLYBOOK_ANCHOR`, which must be right if it is set, or the PATH's, if it is not too old.
fn anchor() -> Result<Option<OsString>> {
    if let Some(named) = std::env::var_os("TALLYBOOK_ANCHOR") {
        version(&named).context("TALLYBOOK_ANCHOR")?;
        return Ok(Some(named));
    }
    let found = OsString::from("anchor");
    Ok(version(&found).is_ok().then_some(found))
}

fn version(anchor: &OsString) -> Result<()> {
    let output = Command::new(anchor).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let major = text.trim().strip_prefix("anchor-cli ").and_then(|version| version.split('.').next());
    ensure!(major.context(text.clone())?.parse::<u32>()? >= 1, "{text} is too old");
    Ok(())
}

/// What `anchor build` leaves: this repository's Anchor.toml and the program in target/deploy.
fn anchor_workspace() -> Result<TempDir> {
    let (from, workspace) = (repository(), tempfile::tempdir()?);
    let to = workspace.path();
    for folder in ["programs/tallybook", "target/deploy"] {
        fs::create_dir_all(to.join(folder))?;
    }
    // The version is only what `avm` would fetch: this is about the CLI at hand.
    let settings = fs::read_to_string(from.join("Anchor.toml"))?;
    let settings: Vec<&str> = settings.lines().filter(|line| !line.starts_with("anchor_version")).collect();
    fs::write(to.join("Anchor.toml"), settings.join("\n"))?;
    // Of the manifest Anchor wants the library's name; its 1.0 cannot read a workspace of edition 2024.
    fs::write(
        to.join("programs/tallybook/Cargo.toml"),
        "[package]\nname = \"tallybook-program\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[lib]\nname = \"tallybook\"\n",
    )?;
    let program = from.join("programs/tallybook");
    fs::copy(program.join("artifact/tallybook.so"), to.join("target/deploy/tallybook.so"))?;
    fs::copy(program.join("localnet-keypair.json"), to.join("target/deploy/tallybook-keypair.json"))?;
    Ok(workspace)
}
