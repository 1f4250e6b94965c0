//! What stands at the program's address.

use anyhow::{Context, Result, bail, ensure};
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_loader_v3_interface::get_program_data_address;
use solana_loader_v3_interface::state::UpgradeableLoaderState;

/// The loader of programs that can be upgraded.
pub(super) const LOADER: Address = solana_address::address!("BPFLoaderUpgradeab1e11111111111111111111111");

/// What stands at the program's address.
pub(super) enum Standing {
    /// Nothing: it was never deployed here.
    Nothing,
    /// A program.
    Deployed(Deployed),
}

/// A program on the chain.
pub(super) struct Deployed {
    /// Who may upgrade it; nobody when it is final.
    pub(super) authority: Option<Address>,
    /// Its code: the ELF file, and zeros up to what was allocated.
    pub(super) code: Vec<u8>,
}

impl Standing {
    /// Asks the chain.
    pub(super) async fn of(rpc: &RpcClient, program: &Address) -> Result<Self> {
        let answer = rpc.get_account_with_commitment(program, rpc.commitment()).await;
        let Some(account) = answer.context("the chain does not answer: name another endpoint with --rpc")?.value else {
            return Ok(Self::Nothing);
        };
        let code = get_program_data_address(program);
        let kept_apart = matches!(
            wincode::deserialize(&account.data),
            Ok(UpgradeableLoaderState::Program { programdata_address }) if programdata_address == code
        );
        ensure!(
            account.owner == LOADER && kept_apart,
            "{program} is something else than a program that can be upgraded: make another address with `anchor keys sync`"
        );
        let Some(account) = rpc.get_account_with_commitment(&code, rpc.commitment()).await?.value else {
            bail!("the program {program} was closed, for ever: make another address with `anchor keys sync`");
        };
        Ok(Self::Deployed(Deployed::parse(&account.data).with_context(|| format!("{code} is unreadable"))?))
    }
}

impl Deployed {
    fn parse(data: &[u8]) -> Result<Self> {
        let UpgradeableLoaderState::ProgramData { upgrade_authority_address, .. } = wincode::deserialize(data)? else {
            bail!("it holds no program");
        };
        let code = data.get(UpgradeableLoaderState::size_of_programdata_metadata()..).unwrap_or_default();
        Ok(Self { authority: upgrade_authority_address, code: code.to_vec() })
    }

    /// Whether this is what `elf` would be when deployed.
    pub(super) fn is(&self, elf: &[u8]) -> bool {
        self.code.strip_prefix(elf).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_room_and_anything_else_is_another_program() {
        let deployed = |code: &[u8]| Deployed { authority: None, code: code.to_vec() };
        assert!(deployed(b"elf").is(b"elf"));
        assert!(deployed(b"elf\0\0").is(b"elf"));
        assert!(!deployed(b"elf\0x").is(b"elf"));
        assert!(!deployed(b"el").is(b"elf"));
        assert!(!deployed(b"orc").is(b"elf"));
    }
}
