//! The facilitator: takes vouchers for payees, makes them durable, and settles them on chain at its own expense.
//!
//! It has no role on chain: it can move nobody's money anywhere but where the program sends it.
//!
//! Reading path of a voucher: `routes` (HTTP) → `schemes` (which one takes it) → `schemes::channel` (verified, nothing locked) → [`tallybook_sequencer`]
//! (decided, made durable, answered) → `settlement` (planned, sent, ended). Beside it `watcher` is the eye on the chain, and
//! `discovery` lists what was paid for. With others on the same database it works on some of the books: see `nodes`, `line`, `holding`.
#![forbid(unsafe_code)]

mod administration;
mod allowance;
mod app;
mod audit;
mod backup;
mod config;
mod connections;
mod discovery;
mod expenses;
mod export;
mod facilitator;
mod first_sight;
mod forward;
mod grow;
mod guard;
mod health;
mod holding;
mod line;
mod metrics;
mod money;
mod nodes;
mod notebook;
mod operator;
mod problem;
mod quota;
mod routes;
mod schemes;
mod serve;
mod settlement;
mod shares;
mod show;
mod sight;
mod traces;
mod watcher;

pub use backup::{NoBackup, backup};
pub use config::{
    ChainSettings, Config, ConfigProblem, Database, DiscoverySettings, ExactSettings, Limits, Log, OperatorSettings,
    PriorityFee, Settlement, Token, Traces, Transaction, reference,
};
pub use facilitator::{Facilitator, Failure, run};
pub use health::{Unwell, check_health};
pub use traces::{Telemetry, install};
