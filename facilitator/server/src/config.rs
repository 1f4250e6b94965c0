//! What an operator decides. Read once, checked whole before anything is opened or bound, and refused by the name of the
//! key.

mod chain;
mod database;
mod discovery;
mod exact;
mod limits;
mod operator;
mod read;
mod reference;
mod token;
mod traces;

pub use chain::{ChainSettings, PriorityFee, Transaction};
pub use database::Database;
pub use discovery::DiscoverySettings;
pub use exact::ExactSettings;
pub use limits::Limits;
pub use operator::OperatorSettings;
pub use reference::reference;
pub use token::Token;
pub use traces::Traces;

use crate::holding::PAYMENTS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tallybook_keys::Source;
use tallybook_ledger::{Capacity, Policy};
use tallybook_rules::Amount;
use tallybook_rules::half_aggregation::MAX_ROWS;
use tallybook_store::PostgresStore;
use tallybook_wire::{Key, Network};
use thiserror::Error;
use url::Url;

/// Their balances are read together, every few seconds; a block has no room for the claims of so many.
const MAX_CLAIM_SPONSORS: usize = 32;

/// What is wrong with a configuration: which key, and what to do.
#[derive(Debug, Error)]
#[error("config key `{key}`: {problem}")]
pub struct ConfigProblem {
    /// The key, with its section; the file itself when it is not TOML at all.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl ConfigProblem {
    fn new(key: &str, problem: impl fmt::Display) -> Self {
        Self { key: key.to_owned(), problem: problem.to_string() }
    }
}

/// The configuration of a facilitator. `facilitator.example.toml` shows every key, and `docs/configuration.md`, which
/// [`fn@reference`] makes of this type, explains it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where vouchers are kept: a file, made if missing, or a PostgreSQL database.
    #[schemars(with = "String")]
    pub database: Database,
    /// Where other facilitators on the same database reach this one, as `http://10.0.0.1:4020`: then each works on its part of
    /// the books, and hands on what it is asked of the others. Alone by default.
    #[serde(default)]
    pub address: Option<String>,
    /// The Solana node's JSON-RPC endpoint.
    pub rpc_url: String,
    /// The cluster's CAIP-2 id; by default that of the node's genesis hash.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub network: Option<Network>,
    /// The key of the sponsor, who pays fees: a key file that only its owner may read, `env:NAME`, or `command:PROGRAM`.
    #[schemars(with = "String")]
    pub sponsor: Source,
    /// More keys, which pay for claims in the sponsor's place and for nothing else. Pages are spread over them, so that claims of
    /// many pages do not wait for the write lock of one account. None by default: the sponsor pays.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub claim_sponsors: Vec<Source>,
    /// The books that are served.
    #[schemars(with = "Vec<String>")]
    pub books: Vec<Key>,
    /// What resource servers show as a bearer token, at least 16 characters, or a list of up to 8 of which any is good: a new one
    /// and an old one, while clients change. Needed unless only this machine can connect.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub access_token: Option<Token>,
    /// What administrators show as a bearer token, or a list as with `access_token`: without one, nothing can be administered
    /// over HTTP. It opens what `access_token` opens, too.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub admin_token: Option<Token>,
    /// Where every payment and every act of administration is recorded, a line each; nowhere by default.
    #[serde(default)]
    pub audit_log: Option<PathBuf>,
    /// Where copies of a store in a file are put, by `POST /admin/backup` or `tallybook-facilitator backup`: a folder that exists.
    /// Nobody deletes them.
    #[serde(default)]
    pub backup_folder: Option<PathBuf>,
    /// The address of the facilitator's own leg in the books, if it has one: `/income` says what it has earned.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub income: Option<Key>,
    /// When claims are sent.
    #[serde(default)]
    pub settlement: Settlement,
    /// How much is taken on.
    #[serde(default)]
    pub limits: Limits,
    /// How the chain is asked, and what it may cost.
    #[serde(default)]
    pub chain: ChainSettings,
    /// Payments that go to their payee at once, by the scheme `exact`; not taken by default.
    #[serde(default)]
    pub exact: Option<ExactSettings>,
    /// The catalogue of what was paid for.
    #[serde(default)]
    pub discovery: DiscoverySettings,
    /// The operator's page.
    #[serde(default)]
    pub operator: OperatorSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Where traces go; nowhere by default.
    #[serde(default)]
    pub traces: Option<Traces>,
}

/// When claims are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settlement {
    /// A page is claimed when so much waits in it, in base units of its mint.
    pub min_amount: u64,
    /// A page is claimed when something has waited so long in it, in seconds.
    pub max_age_seconds: u32,
    /// A page is claimed, in full transactions only, when so many of its channels wait.
    pub min_rows: u32,
    /// The most claims of one transaction; what fits decides, in the shape that the chain takes.
    pub rows_per_transaction: u32,
    /// Everything is claimed as soon as it is charged.
    pub per_call: bool,
    /// How often it is looked whether something is due, in milliseconds.
    pub tick_milliseconds: u64,
}

impl Default for Settlement {
    fn default() -> Self {
        Self {
            min_amount: 25_000_000,
            max_age_seconds: 3_600,
            min_rows: 69,
            rows_per_transaction: 96,
            per_call: false,
            tick_milliseconds: 500,
        }
    }
}

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// One JSON object a line, else text.
    pub json: bool,
    /// A filter of `tracing`, such as `info` or `tallybook_facilitator=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { json: false, filter: "info".to_owned() }
    }
}

impl Config {
    /// Reads a file, then the environment over it, and checks the whole.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigProblem> {
        let text = match file {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|error| ConfigProblem::new(&path.display().to_string(), error))?
            }
            None => String::new(),
        };
        let mut config = read::parse(&text, environment)?;
        for (key, token) in [("access_token", &mut config.access_token), ("admin_token", &mut config.admin_token)] {
            if let Some(token) = token {
                token.read().map_err(|problem| ConfigProblem::new(key, problem))?;
            }
        }
        config.database = config.database.read().map_err(|problem| ConfigProblem::new("database", problem))?;
        config.check()?;
        Ok(config)
    }

    /// Reads TOML without looking at files or the environment.
    pub fn from_toml(text: &str) -> Result<Self, ConfigProblem> {
        read::parse(text, std::iter::empty())
    }

    /// Refuses what cannot work, before anything is opened or bound.
    pub fn check(&self) -> Result<(), ConfigProblem> {
        let scheme = Url::parse(&self.rpc_url).map(|url| url.scheme().to_owned());
        if !scheme.is_ok_and(|scheme| ["http", "https"].contains(&scheme.as_str())) {
            return Err(ConfigProblem::new("rpc_url", "write the http:// or https:// URL of a Solana node"));
        }
        if self.books.is_empty() {
            return Err(ConfigProblem::new("books", "name at least one book to serve"));
        }
        let unique: BTreeSet<_> = self.books.iter().map(Key::as_bytes).collect();
        if unique.len() != self.books.len() {
            return Err(ConfigProblem::new("books", "name each book once"));
        }
        self.database.check().map_err(|problem| ConfigProblem::new("database", problem))?;
        self.check_address()?;
        self.check_backup_folder()?;
        self.check_access()?;
        self.exact.as_ref().map_or(Ok(()), |exact| exact.check(self))?;
        self.traces.as_ref().map_or(Ok(()), Traces::check)?;
        self.operator.check()?;
        self.check_ranges()?;
        self.purse().map(|_| ())
    }

    fn check_address(&self) -> Result<(), ConfigProblem> {
        let Some(address) = &self.address else { return Ok(()) };
        let refuse = |problem: &str| Err(ConfigProblem::new("address", problem));
        let is_one = Url::parse(address)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.path() == "/" && url.query().is_none());
        if !is_one || address.ends_with('/') || address.len() > PostgresStore::MAX_ADDRESS_BYTES {
            return refuse("write http://HOST:PORT, at most 48 bytes: where other facilitators reach this one");
        }
        if self.database.path().is_some() {
            return refuse("several facilitators share a PostgreSQL `database`; a file belongs to one alone");
        }
        Ok(())
    }

    fn check_backup_folder(&self) -> Result<(), ConfigProblem> {
        let Some(folder) = &self.backup_folder else { return Ok(()) };
        let refuse = |problem: &str| Err(ConfigProblem::new("backup_folder", problem));
        if self.database.path().is_none() {
            return refuse("only a `database` that is a file is copied so; use pg_dump for PostgreSQL");
        }
        if folder.is_dir() { Ok(()) } else { refuse("name a folder that exists") }
    }

    fn check_access(&self) -> Result<(), ConfigProblem> {
        for (key, token) in [("access_token", &self.access_token), ("admin_token", &self.admin_token)] {
            if token.as_ref().is_some_and(Token::is_short) {
                return Err(ConfigProblem::new(
                    key,
                    "write at least 16 random characters, such as those of `openssl rand -hex 32`",
                ));
            }
        }
        if let (Some(admin), Some(access)) = (&self.admin_token, &self.access_token)
            && admin.shares_with(access)
        {
            return Err(ConfigProblem::new(
                "admin_token",
                "must not be the access_token: resource servers know that one",
            ));
        }
        // Whoever may release a reservation could have one voucher pay for two calls.
        if self.access_token.is_none() && !self.listen.ip().is_loopback() {
            return Err(ConfigProblem::new(
                "access_token",
                "set one, and give it to your resource servers: `listen` is not on this machine alone",
            ));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), ConfigProblem> {
        for (key, value, least, most) in self.ranges() {
            if !(least..=most).contains(&value) {
                return Err(ConfigProblem::new(key, format_args!("must be {least} to {most}, and is {value}")));
            }
        }
        Ok(())
    }

    /// Each key that is a number with its value, and the smallest and largest that makes sense.
    fn ranges(&self) -> impl Iterator<Item = (&'static str, u64, u64, u64)> {
        let most_rows = u64::try_from(MAX_ROWS).unwrap_or(u64::MAX);
        let (settlement, chain) = (&self.settlement, &self.chain);
        let ranges = [
            ("settlement.rows_per_transaction", u64::from(settlement.rows_per_transaction), 1, most_rows),
            ("settlement.max_age_seconds", u64::from(settlement.max_age_seconds), 1, 604_800),
            ("settlement.min_rows", u64::from(settlement.min_rows), 1, 96),
            ("settlement.min_amount", settlement.min_amount, 1, Amount::MAX_DEPOSIT.get()),
            ("settlement.tick_milliseconds", settlement.tick_milliseconds, 10, 60_000),
            ("chain.poll_milliseconds", chain.poll_milliseconds, 50, 60_000),
            ("chain.timeout_seconds", u64::from(chain.timeout_seconds), 1, 120),
            ("chain.patience_seconds", u64::from(chain.patience_seconds), 1, 300),
            ("chain.compute_price", chain.compute_price, 0, 10_000_000),
            ("chain.compute_price_cap", chain.compute_price_cap, chain.compute_price, 10_000_000),
            ("chain.compute_price_percentile", u64::from(chain.compute_price_percentile), 0, 100),
            ("chain.max_compute_price", chain.max_compute_price, 0, 10_000_000),
            ("chain.max_compute_units", u64::from(chain.max_compute_units), 1, 1_400_000),
        ];
        let exact = self.exact.iter().flat_map(ExactSettings::ranges);
        let discovery = self.discovery.ranges();
        let traces = self.traces.iter().map(Traces::range);
        ranges
            .into_iter()
            .chain(self.limits.ranges())
            .chain(exact)
            .chain(discovery)
            .chain(traces)
            .chain(self.operator.ranges())
    }

    /// Where this machine reaches a facilitator of this configuration.
    pub(crate) fn own_url(&self) -> String {
        let mut at = self.listen;
        if at.ip().is_unspecified() {
            at.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{at}")
    }

    /// Reads the sponsor's key, and those that pay for claims.
    pub(crate) fn purse(&self) -> Result<(Keypair, Vec<Keypair>), ConfigProblem> {
        let sponsor = self.sponsor.keypair().map_err(|problem| ConfigProblem::new("sponsor", problem))?;
        let refuse = |problem: &dyn fmt::Display| ConfigProblem::new("claim_sponsors", problem);
        if self.claim_sponsors.len() > MAX_CLAIM_SPONSORS {
            return Err(refuse(&format_args!("name at most {MAX_CLAIM_SPONSORS} keys")));
        }
        let claiming = self.claim_sponsors.iter().map(|key| key.keypair().map_err(|problem| refuse(&problem)));
        let claiming = claiming.collect::<Result<Vec<Keypair>, _>>()?;
        let addresses = claiming.iter().chain([&sponsor]).map(Keypair::pubkey).collect::<BTreeSet<_>>();
        if addresses.len() <= claiming.len() {
            return Err(refuse(&"name each key once, and not the sponsor's, which pays anyway when all others cannot"));
        }
        Ok((sponsor, claiming))
    }

    /// What is held, each by one facilitator on the database: the books, and payments that are for none, if those are taken.
    pub(crate) fn held_by_name(&self) -> Vec<[u8; 32]> {
        let books = self.books.iter().map(|book| book.0);
        books.chain(self.exact.as_ref().map(|_| PAYMENTS)).collect()
    }

    pub(crate) fn policy(&self) -> Policy {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Policy {
            rows_per_batch: size(self.settlement.rows_per_transaction),
            rows_per_batch_below: size(self.settlement.rows_per_transaction),
            capacity: Capacity::ONE_PAGE,
            due_amount: Amount::new(self.settlement.min_amount),
            due_age_seconds: i64::from(self.settlement.max_age_seconds),
            due_rows: size(self.settlement.min_rows),
            per_call: self.settlement.per_call,
        }
    }
}
