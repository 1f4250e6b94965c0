//! The machine: the released program deployed by the real loader, under mainnet's features.

use crate::memory::Watch;
use crate::world::key;
use litesvm::LiteSVM;
use solana_account::Account;
use solana_address::{Address, address};
use solana_clock::Clock;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::PROGRAM_ID;

/// The feature gate of transactions of version 1: not on mainnet yet, and of no effect on others.
const TRANSACTION_V1: Address = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");
/// The feature gate of the runtime's SHA-512, which a build with the feature `sha512-syscall` calls: not on mainnet yet.
const SHA512_SYSCALL: Address = address!("s512oDwgx8hjMnaQjXfqqrZroVj4HvC6TkN3iSSWXCh");
const LOADER: Address = address!("BPFLoaderUpgradeab1e11111111111111111111111");
const SYSTEM: Address = address!("11111111111111111111111111111111");
const RENT: Address = address!("SysvarRent111111111111111111111111111111111");
const CLOCK: Address = address!("SysvarC1ock11111111111111111111111111111111");

/// Names another build of the program than the released one.
const OTHER_BUILD: &str = "TALLYBOOK_PROGRAM";

/// The released program, or another build of it.
fn artifact() -> Vec<u8> {
    let released = concat!(env!("CARGO_MANIFEST_DIR"), "/../programs/tallybook/artifact/tallybook.so");
    let path = std::env::var_os(OTHER_BUILD).unwrap_or_else(|| released.into());
    std::fs::read(path).expect("the released program is committed")
}

/// A machine whose `sponsor` has lamports and has deployed the program. With a `watch` each of its instructions is traced,
/// which takes much longer.
pub(crate) fn machine(sponsor: &Keypair, watch: Option<Watch>) -> LiteSVM {
    let mut features = LiteSVM::mainnet_feature_set();
    features.activate(&TRANSACTION_V1, 0);
    if std::env::var_os(OTHER_BUILD).is_some() {
        features.activate(&SHA512_SYSCALL, 0);
    }
    let svm = LiteSVM::new_debuggable(watch.is_some());
    let mut svm = svm.with_feature_set(features).with_builtins().with_precompiles().with_feature_accounts();
    let mut elf = artifact();
    if let Some(watch) = watch {
        svm.set_invocation_inspect_callback(watch);
        elf = with_section_names(elf);
    }
    svm.airdrop(&sponsor.pubkey(), 1_000_000_000_000).unwrap();
    deploy(&mut svm, sponsor, &elf);
    svm
}

/// The same program with an empty table of sections, which a machine that traces insists on and the released file has not.
fn with_section_names(mut elf: Vec<u8>) -> Vec<u8> {
    const NAMES: &[u8; 16] = b"\0.shstrtab\0\0\0\0\0\0";
    elf.resize(elf.len().next_multiple_of(8), 0);
    let names = u64::try_from(elf.len()).unwrap();
    elf.extend_from_slice(NAMES);
    let table = u64::try_from(elf.len()).unwrap();
    let mut headers = [0; 2 * 64]; // the first is that of no section
    let [name, kind] = [1u32, 3].map(u32::to_le_bytes);
    headers[64..72].copy_from_slice(&[name, kind].concat());
    headers[88..96].copy_from_slice(&names.to_le_bytes());
    headers[96..104].copy_from_slice(&11u64.to_le_bytes());
    elf.extend_from_slice(&headers);
    elf[40..48].copy_from_slice(&table.to_le_bytes());
    // bytes of a header, how many there are, which one has the names
    elf[58..64].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
    elf
}

/// An account with lamports enough.
pub(crate) fn account(data: Vec<u8>, owner: Address) -> Account {
    Account { lamports: 1_000_000_000, data, owner, executable: false, rent_epoch: u64::MAX }
}

/// An initialised mint of 6 decimals that `authority` mints and freezes.
pub(crate) fn mint_data(authority: &Address) -> Vec<u8> {
    let mut data = vec![0; 82];
    data[0] = 1;
    data[4..36].copy_from_slice(authority.as_ref());
    data[44] = 6;
    data[45] = 1;
    data[46] = 1;
    data[50..82].copy_from_slice(authority.as_ref());
    data
}

/// Deploys by the real loader, as a release is deployed.
fn deploy(svm: &mut LiteSVM, authority: &Keypair, elf: &[u8]) {
    let (payer, buffer) = (authority.pubkey(), key("buffer").pubkey());
    let mut data = vec![1, 0, 0, 0, 1];
    data.extend_from_slice(payer.as_ref());
    data.extend_from_slice(elf);
    let mut staged = account(data, LOADER);
    staged.lamports = svm.minimum_balance_for_rent_exemption(2 * staged.data.len());
    svm.set_account(buffer, staged).unwrap();
    svm.set_account(PROGRAM_ID, account(vec![0; 36], LOADER)).unwrap();
    let (program_data, _) = Address::find_program_address(&[PROGRAM_ID.as_ref()], &LOADER);
    let mut data = vec![2, 0, 0, 0];
    data.extend_from_slice(&u64::try_from(elf.len()).unwrap().to_le_bytes());
    let deploy = Instruction {
        program_id: LOADER,
        accounts: vec![
            AccountMeta::new(payer, true),
            AccountMeta::new(program_data, false),
            AccountMeta::new(PROGRAM_ID, false),
            AccountMeta::new(buffer, false),
            AccountMeta::new_readonly(RENT, false),
            AccountMeta::new_readonly(CLOCK, false),
            AccountMeta::new_readonly(SYSTEM, false),
            AccountMeta::new_readonly(payer, true),
        ],
        data,
    };
    let message = Message::new_with_blockhash(&[deploy], Some(&payer), &svm.latest_blockhash());
    let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[authority]).unwrap();
    svm.send_transaction(transaction).expect("the loader takes the released program");
    let slot = svm.get_sysvar::<Clock>().slot;
    svm.warp_to_slot(slot + 1);
}
